"""What a report tells, and its numbers: for readers and as JSON."""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ...measure.collapse import Collapse
from ...measure.estimate import Estimate
from ...measure.information import Dependence
from ...measure.profile import concentration, fit_sombrero, symmetry
from ...measure.sombrero import heights
from .comparison import Comparison
from .controls import Controls
from .survey import LayerFinding, Survey
from .verdicts import Finding, claim_verdict


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
        collapse (Dict[str, Collapse]): Of the pooled vectors, by layer; empty
            without labels.
        comparison (Comparison, optional): With a second network.
    """

    facts: Dict[str, str]
    survey: Survey
    findings: List[Finding]
    dependence: Dict[str, Dict[str, Dependence]]
    nulls: Dict[str, Dict[str, np.ndarray]]
    agreement: Dict[str, Estimate]
    controls: Controls
    alpha: float
    collapse: Dict[str, Collapse] = {}
    comparison: Optional[Comparison] = None


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


def jsonable(value: Any) -> Any:
    """Numbers, lists and mappings; NaN becomes null."""
    if isinstance(value, dict):
        return {str(key): jsonable(part) for key, part in value.items()}
    if hasattr(value, '_asdict'):
        return jsonable(value._asdict())
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [jsonable(part) for part in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
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
        heights=None if fit is None else heights(summary, fit),
        # Without labels all images are one class.
        labelled=labelled,
        planes=layer.planes,
    )


def numbers(analysis: Analysis) -> dict:
    """All numbers of the report, for JSON."""
    labelled = analysis.survey.classes is not None
    return jsonable(
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
            collapse=analysis.collapse,
            controls=analysis.controls,
            comparison=_comparison_numbers(analysis.comparison),
        )
    )


def _comparison_numbers(found: Optional[Comparison]) -> Optional[dict]:
    if found is None:
        return None
    return dict(
        facts=found.facts,
        pairs=[
            dict(
                first=p.first.name,
                second=p.second.name,
                matched_by=p.how,
                remark=p.remark,
            )
            for p in found.pairs
        ],
        verdicts_of_second=[finding.row() for finding in found.findings],
        differences=found.differences,
    )
