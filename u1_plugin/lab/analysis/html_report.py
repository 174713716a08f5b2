"""Writes an analysis as one HTML file, JSON, class angles and planes."""

import base64
import json
import math
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np

from ...measure.estimate import jsonable
from .. import markup
from . import angle_figures, comparison_figures, energy_figures
from .comparison import NetworkComparison
from .drawing import png, short, show_estimate, show_number, show_pvalue
from .paired_statistics import STATISTICS
from .report_numbers import Analysis, numbers, verdict_table
from .survey import INPUT, JUDGED, PLANES, LayerFinding

CLAIMS = dict(
    C1='energy concentrated at, and symmetric about, the optical axis',
    C2='Sombrero profile with its trough inside the map',
    C3='a class-specific angle, the same in both planes',
)

#: A verdict is told by a mark and a word as well as by its colour.
_MARKS = {'supported': '✓', 'not supported': '✗', 'undecided': '?'}


def _pictures(analysis: Analysis) -> dict:
    survey = analysis.survey
    data, layers = survey.layers[0], survey.layers[1:]
    names, judged = survey.classes, list(JUDGED)
    pictures: Dict[str, Any] = dict(
        energy=energy_figures.energy_maps(survey.layers),
        profiles=energy_figures.radial_profiles(layers, data),
        surfaces=energy_figures.sombrero_surfaces(layers),
        layers={},
    )
    for layer in layers:
        clouds = angle_figures.moment_clouds(
            layer, survey.labels, names, judged
        )
        layer_pictures = pictures['layers'][layer.name] = dict(clouds=clouds)
        if names:
            layer_pictures['roses'] = angle_figures.polar_histograms(
                layer, names, judged
            )
            layer_pictures['agreement'] = angle_figures.plane_agreement(
                layer, names, judged, analysis.agreement[layer.name]
            )
    if names:
        pictures['information'] = angle_figures.information_bars(
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
    return base64.b64encode(png(picture)).decode()


def render(analysis: Analysis, files: Sequence[str]) -> str:
    """The report as one HTML page that needs no other file."""
    environment = markup.html()
    environment.filters.update(
        number=show_number,
        estimate=show_estimate,
        pvalue=show_pvalue,
        short=short,
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
        statistics=STATISTICS,
        other_verdicts=verdict_table(
            analysis.comparison.findings if analysis.comparison else []
        ),
    )


def markdown_table(facts: Dict[str, str], comparison: NetworkComparison) -> str:
    """The differences as a page of Markdown; the facts are the first's."""
    first, second = map(markup.markdown, comparison.titles(facts))
    lines = [
        f'# {first} against {second}',
        '',
        '| layer | against | matched by | statistic | first | second | '
        'difference | p (Holm) | first is |',
        '|---|---|---|---|---:|---:|---:|---:|---|',
    ]
    remarks = []
    for pair in comparison.pairs:
        one, other = (markup.markdown(short(item.name)) for item in pair[:2])
        for row in comparison.rows(pair):
            estimates = ' | '.join(
                show_estimate(item) if math.isfinite(item.value) else '–'
                for item in (row.first, row.second, row.difference)
            )
            lines.append(
                f'| {one} | {other} | {pair.how} '
                f'| {": ".join(STATISTICS[row.statistic])} | {estimates} '
                f'| {show_pvalue(row.corrected)} | {row.words} |'
            )
        if pair.remark:
            remarks.append(f'\n{one} against {other}: {pair.remark}.')
    return '\n'.join([*lines, *remarks]) + '\n'


def write_planes(folder: Path, layer: LayerFinding) -> Path:
    """The PCA plane and the centre, as ``FeaturePlane(file=...)`` reads them.

    Returns:
        Path: Of the ``.npz`` file in ``folder``.
    """
    file = folder / f'{markup.file_name(layer.name)}.npz'
    np.savez(
        file,
        basis=layer.basis.astype(np.float32),
        center=layer.center.astype(np.float32),
    )
    return file


def write_class_angles(
    folder: Path, layer: LayerFinding, classes: Sequence[str], plane: str
) -> Optional[Path]:
    """Class angles as ``ClassAngles(mode='file', file=...)`` reads them.

    Returns:
        Path: Of the JSON file; None if a class has no image with an angle,
        for which nothing was measured.
    """
    summary = layer.planes[plane]
    if not np.isfinite(summary.mean).all():
        return None
    file = folder / f'{markup.file_name(layer.name)}.{plane}.json'
    content = dict(
        class_angles=np.mod(summary.mean, 2 * np.pi),
        half_width=summary.half_width,
        resultant_length=summary.length,
        images=summary.count,
        classes=list(classes),
        layer=layer.name,
        plane=plane,
    )
    file.write_text(json.dumps(jsonable(content), indent=1))
    return file


def write_report(folder: Path, analysis: Analysis) -> None:
    """``report.html``, ``numbers.json``, ``planes`` and ``class_angles``.

    The folder is an existing, empty one.
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
