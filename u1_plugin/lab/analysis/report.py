"""Writes an analysis as one HTML file, JSON, class angles and planes."""

import base64
import json
from pathlib import Path
from typing import Any, Dict, Sequence

from .. import markup
from . import comparison_figures, figures
from .comparison_table import markdown_table, rows_of, verdict_words
from .controls import Controls
from .paired_statistics import STATISTICS
from .report_files import write_class_angles, write_planes
from .report_numbers import (
    Analysis,
    numbers,
    show_estimate,
    show_number,
    show_pvalue,
    verdict_table,
)
from .survey import INPUT, JUDGED, PLANES

__all__ = [
    'Analysis',
    'CLAIMS',
    'Controls',
    'numbers',
    'render',
    'show_estimate',
    'show_number',
    'show_pvalue',
    'verdict_table',
    'write_class_angles',
    'write_planes',
    'write_report',
]

CLAIMS = dict(
    C1='energy concentrated at, and symmetric about, the optical axis',
    C2='Sombrero profile with its trough inside the map',
    C3='a class-specific angle, the same in both planes',
)

#: A verdict is told by a mark and a word as well as by its colour.
_MARKS = {'supported': '✓', 'not supported': '✗', 'undecided': '?'}


def _pictures(analysis: Analysis) -> dict:
    found = analysis.survey
    data, layers = found.layers[0], found.layers[1:]
    names, judged = found.classes, list(JUDGED)
    pictures: Dict[str, Any] = dict(
        energy=figures.energy_maps(found.layers),
        profiles=figures.radial_profiles(layers, data),
        surfaces=figures.sombrero_surfaces(layers),
        layers={},
    )
    for layer in layers:
        own = pictures['layers'][layer.name] = dict(
            clouds=figures.moment_clouds(layer, found.labels, names, judged)
        )
        if names:
            own['roses'] = figures.polar_histograms(layer, names, judged)
            own['agreement'] = figures.plane_agreement(
                layer, names, judged, analysis.agreement[layer.name]
            )
    if names:
        pictures['information'] = figures.information_bars(
            {n: d for n, d in analysis.dependence.items() if n != INPUT},
            analysis.nulls,
        )
    if analysis.comparison is not None:
        pictures['comparison'] = comparison_figures.pictures_of(
            analysis.facts, analysis.comparison
        )
    return pictures


def _encode(picture: Any) -> Any:
    if isinstance(picture, dict):
        return {key: _encode(part) for key, part in picture.items()}
    return base64.b64encode(figures.png(picture)).decode()


def render(analysis: Analysis, files: Sequence[str]) -> str:
    """The report as one HTML page that needs no other file.

    Args:
        analysis (Analysis): What to tell.
        files (Sequence[str]): Names of the files beside it.
    """
    environment = markup.html()
    environment.filters.update(
        number=show_number,
        estimate=show_estimate,
        pvalue=show_pvalue,
        short=figures.short,
    )
    template = environment.from_string(
        Path(__file__).with_name('report.html').read_text(encoding='utf-8')
    )
    return template.render(
        analysis=analysis,
        claims=CLAIMS,
        marks=_MARKS,
        planes=PLANES,
        input=INPUT,
        verdicts=verdict_table(analysis.findings),
        pictures=_encode(_pictures(analysis)),
        files=files,
        rows_of=rows_of,
        verdict_words=verdict_words,
        statistics=STATISTICS,
        other_verdicts=verdict_table(
            analysis.comparison.findings if analysis.comparison else []
        ),
    )


def write_report(folder: Path, analysis: Analysis) -> None:
    """``report.html``, ``numbers.json``, ``planes`` and ``class_angles``.

    Args:
        folder (Path): An existing, empty folder.
        analysis (Analysis): What to tell.
    """
    classes = analysis.survey.classes
    for name in ('planes', 'class_angles') if classes else ('planes',):
        (folder / name).mkdir()
    written = []
    for layer in analysis.survey.layers[1:]:
        written.append(write_planes(folder / 'planes', layer))
        for plane in PLANES if classes else ():
            written.append(
                write_class_angles(
                    folder / 'class_angles', layer, classes, plane
                )
            )
    written = [file for file in written if file]
    content = json.dumps(numbers(analysis), indent=1)
    (folder / 'numbers.json').write_text(content, encoding='utf-8')
    names = [str(file.relative_to(folder)) for file in written]
    if analysis.comparison is not None:
        table = markdown_table(analysis.facts, analysis.comparison)
        (folder / 'comparison.md').write_text(table, encoding='utf-8')
        names.insert(0, 'comparison.md')
    page = render(analysis, ['numbers.json', *names])
    (folder / 'report.html').write_text(page, encoding='utf-8')
