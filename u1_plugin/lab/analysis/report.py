"""Writes an analysis as one HTML file, JSON, class angles and planes."""

import base64
import json
import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ...measure.estimate import Estimate
from ...measure.information import Dependence
from ...measure.profile import concentration, fit_sombrero, symmetry
from .. import markup
from . import figures
from .controls import Centring, Shift, Shuffle, Turn, Variant
from .survey import INPUT, JUDGED, PLANES, LayerFinding, Survey
from .verdicts import Finding, claim_verdict

CLAIMS = dict(
    C1='energy concentrated at, and symmetric about, the optical axis',
    C2='Sombrero profile with its trough inside the map',
    C3='a class-specific angle, the same in both planes',
)

#: A verdict is told by a mark and a word as well as by its colour.
_MARKS = {'supported': '✓', 'not supported': '✗', 'undecided': '?'}


class Controls(NamedTuple):
    """What :mod:`.controls` found; empty lists where it was not asked."""

    centring: List[Centring]
    shuffles: List[Shuffle]
    variants: List[Variant]
    turns: List[Turn]
    shifts: List[Shift]


class Analysis(NamedTuple):
    """Everything that a report tells.

    Attributes:
        facts (Dict[str, str]): What was analysed, for the head of the report.
        survey (Survey): Of all layers; the input image first.
        findings (List[Finding]): Of the network's layers, judged together.
        dependence (Dict[str, Dict[str, Dependence]]): By layer, then plane;
            empty without labels.
        nulls (Dict[str, Dict[str, np.ndarray]]): Information under permuted
            labels, likewise.
        agreement (Dict[str, Estimate]): Circular correlation of the class
            angles in both judged planes, by layer.
        controls (Controls): See there.
        alpha (float): Of the verdicts, after Holm.
    """

    facts: Dict[str, str]
    survey: Survey
    findings: List[Finding]
    dependence: Dict[str, Dict[str, Dependence]]
    nulls: Dict[str, Dict[str, np.ndarray]]
    agreement: Dict[str, Estimate]
    controls: Controls
    alpha: float


def show_number(value: float, digits: int = 3) -> str:
    """A number for readers; a dash where there is none."""
    return '–' if math.isnan(value) else f'{value:.{digits}f}'


def show_estimate(estimate: Estimate, digits: int = 3) -> str:
    """Value and interval."""
    if math.isnan(estimate.value):
        return '–'
    text = show_number(estimate.value, digits)
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return text
    low, high = (f'{v:.{digits}f}' for v in (estimate.low, estimate.high))
    return f'{text} [{low}, {high}]'


def show_pvalue(value: float) -> str:
    """A p-value; tiny ones as a bound."""
    if math.isnan(value):
        return '–'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'


def verdict_table(findings: Sequence[Finding]) -> List[dict]:
    """One row a layer: verdict of each claim, and what spoke for it."""
    rows: Dict[str, dict] = {}
    for finding in findings:
        row = rows.setdefault(
            finding.layer, dict(layer=finding.layer, claims={})
        )
        row['claims'].setdefault(finding.test.claim, []).append(finding)
    for row in rows.values():
        row['claims'] = {
            claim: dict(verdict=claim_verdict(own), aspects=own)
            for claim, own in row['claims'].items()
        }
    return list(rows.values())


def _jsonable(value: Any) -> Any:
    """Numbers, lists and mappings; NaN becomes null."""
    if isinstance(value, dict):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if hasattr(value, '_asdict'):
        return _jsonable(value._asdict())
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_jsonable(part) for part in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _layer_numbers(layer: LayerFinding, labelled: bool) -> dict:
    summary = layer.energy
    fit = fit_sombrero(summary) if len(summary.profile) > 2 else None
    return dict(
        name=layer.name,
        channels=layer.channels,
        images=summary.n,
        images_without_energy=summary.skipped,
        mean_energy=summary.mean_energy,
        mean_map=summary.mean_map,
        radius=summary.rings.radius,
        profile=summary.profile,
        profile_covariance=summary.covariance,
        concentration=concentration(summary),
        symmetry=symmetry(summary),
        image_symmetry=summary.image_symmetry,
        sombrero=fit,
        # Without labels all images are one class.
        labelled=labelled,
        planes=layer.planes,
    )


def numbers(analysis: Analysis) -> dict:
    """All numbers of the report, for JSON."""
    labelled = analysis.survey.classes is not None
    return _jsonable(
        dict(
            facts=analysis.facts,
            alpha=analysis.alpha,
            classes=analysis.survey.classes,
            verdicts=[finding.row() for finding in analysis.findings],
            claims={
                row['layer']: {
                    claim: own['verdict']
                    for claim, own in row['claims'].items()
                }
                for row in verdict_table(analysis.findings)
            },
            layers=[
                _layer_numbers(layer, labelled)
                for layer in analysis.survey.layers
            ],
            dependence=analysis.dependence,
            agreement=analysis.agreement,
            controls=analysis.controls,
        )
    )


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

    Args:
        folder (Path): Where the file goes.
        layer (LayerFinding): Whose angles.
        classes (Sequence[str]): Names of the classes.
        plane (str): Key of :data:`~.survey.PLANES`.

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
    file.write_text(json.dumps(_jsonable(content), indent=1))
    return file


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
    page = render(analysis, ['numbers.json', *names])
    (folder / 'report.html').write_text(page, encoding='utf-8')
