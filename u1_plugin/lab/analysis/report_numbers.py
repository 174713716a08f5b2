"""What a report tells, and its numbers: for readers and as JSON."""

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ...measure.collapse import Collapse
from ...measure.estimate import Estimate, jsonable
from ...measure.information import Dependence
from ...measure.profile import concentration, symmetry
from ...measure.sombrero import fit_if_rings, heights
from .comparison import NetworkComparison
from .controls import Controls
from .judging import Finding, claim_verdict
from .survey import LayerFinding, Survey


class Analysis(NamedTuple):
    """Everything that a report tells."""

    facts: Dict[str, str]  # what was analysed, for the head of the report
    survey: Survey  # of all layers; the input image first
    findings: List[Finding]  # of the network's layers, judged together
    #: By layer, then plane; empty without labels.
    dependence: Dict[str, Dict[str, Dependence]]
    #: Information under permuted labels, likewise.
    nulls: Dict[str, Dict[str, np.ndarray]]
    #: Circular correlation of the class angles in both judged planes, by layer.
    agreement: Dict[str, Estimate]
    controls: Controls  # see there
    alpha: float  # of the verdicts, after Holm
    #: Of the pooled vectors, by layer; empty without labels.
    collapse: Dict[str, Collapse] = {}
    comparison: Optional[NetworkComparison] = None  # with a second network


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
            claim: dict(verdict=claim_verdict(aspects), aspects=aspects)
            for claim, aspects in row['claims'].items()
        }
    return list(rows.values())


def _layer_numbers(layer: LayerFinding, labelled: bool) -> dict:
    summary = layer.energy
    fit = fit_if_rings(summary)
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
                    claim: entry['verdict']
                    for claim, entry in row['claims'].items()
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


def _comparison_numbers(
    comparison: Optional[NetworkComparison],
) -> Optional[dict]:
    if comparison is None:
        return None
    return dict(
        facts=comparison.facts,
        pairs=[
            dict(
                first=p.first.name,
                second=p.second.name,
                matched_by=p.how,
                remark=p.remark,
            )
            for p in comparison.pairs
        ],
        verdicts_of_second=[finding.row() for finding in comparison.findings],
        differences=comparison.differences,
    )
