"""Controls: what of a finding is the network's own, and what is not."""

import copy
from typing import Dict, List, NamedTuple, Optional, Sequence

from ...measure.estimate import Estimate
from ...measure.information import class_dependence
from ...measure.profile import concentration, symmetry
from .layer import LayerFinding
from .moment_controls import (
    SHIFT,
    Centring,
    Shift,
    Turn,
    centring_of,
    quarter_turn,
    shift_right,
    shifts_of,
    turns_of,
)
from .shuffles import Shuffle, shuffles_of
from .sources import Network, set_padding, untrained_twin
from .survey import JUDGED

__all__ = [
    'Centring',
    'Controls',
    'SHIFT',
    'Shift',
    'Shuffle',
    'Turn',
    'Variant',
    'centring_of',
    'changed_networks',
    'quarter_turn',
    'shift_right',
    'shifts_of',
    'shuffles_of',
    'turns_of',
    'variants_of',
]

_PERMUTATIONS = 999


class Variant(NamedTuple):
    """The claims' statistics of one layer under one variation.

    Attributes:
        variant (str): What was changed.
        layer (str): Where.
        n (int): Images.
        excess (Estimate): Share of energy within half of the half diagonal,
            less the uniform share.
        symmetry (Estimate): Of the mean map under quarter turns.
        information (Dict[str, Estimate]): Mutual information of angle and
            class, adjusted for chance, by plane; empty without labels, and
            of the image plane alone where the input image is grey.
    """

    variant: str
    layer: str
    n: int
    excess: Estimate
    symmetry: Estimate
    information: Dict[str, Estimate]


class Controls(NamedTuple):
    """All controls of an analysis; empty lists where one was not asked."""

    centring: List[Centring]
    shuffles: List[Shuffle]
    variants: List[Variant]
    turns: List[Turn]
    shifts: List[Shift]


def variants_of(
    layers: Sequence[LayerFinding], name: str, labelled: bool
) -> List[Variant]:
    """The claims' statistics of every layer of one pass."""
    rows = []
    for layer in layers:
        information = {}
        if labelled:
            for plane in JUDGED:
                if plane not in layer.planes:
                    continue  # grey input has no hue
                table = layer.planes[plane].table
                found = class_dependence(table, _PERMUTATIONS)
                information[plane] = found.information_share
        rows.append(
            Variant(
                name,
                layer.name,
                layer.energy.n,
                concentration(layer.energy).excess,
                symmetry(layer.energy),
                information,
            )
        )
    return rows


def changed_networks(
    network: Network, seed: int, is_untrained: bool, padding: Optional[str]
) -> Dict[str, Network]:
    """The network with one thing changed at a time.

    Args:
        network (Network): As analysed.
        seed (int): Of the untrained twin.
        is_untrained (bool): The network is one itself.
        padding (str, optional): It pads so already; no other is tried then.
    """
    found = {}
    if not is_untrained:
        twin = untrained_twin(network, seed)
        if padding:
            set_padding(twin.model, padding)
        found['untrained twin'] = twin
    for mode in () if padding else ('reflect', 'circular'):
        changed = network._replace(model=copy.deepcopy(network.model))
        try:
            set_padding(changed.model, mode)
        except ValueError:
            continue  # nothing pads with zeros
        found[f'padding {mode}'] = changed
    return found
