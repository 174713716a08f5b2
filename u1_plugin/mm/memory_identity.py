"""What made a memory bank, as pieces that can be compared one by one."""

import hashlib
from typing import Any, Dict, List, Mapping, Sequence

from torch import nn

from ..memory import MemoryBank
from ..networks import structure_digest, weights_digest

#: Without these a head's queries cannot be compared with a bank; its other
#: options (dtype, keep, coreset) only say how much the bank holds.
_ASKED = ('in_channels', 'num_classes', 'mode', 'orthant', 'feature_plane')


def digest(text: str) -> str:
    """A short name of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def head_identity(head: nn.Module) -> Dict[str, str]:
    """What of a :class:`MemoryBankHead` decides the content of its bank."""
    plane, coreset = head.feature_plane, head.coreset
    pieces = dict(
        mode=head.mode,
        orthant=head.orthant,
        keep=head.keep,
        coreset=coreset if coreset is None else _chosen(head),
        dtype=head.dtype,
        in_channels=head.in_channels,
        num_classes=head.num_classes,
        feature_plane=_both(plane),
    )
    return {name: str(value) for name, value in pieces.items()}


def _chosen(head: nn.Module) -> str:
    drawn = '' if head.coreset_sample is None else f'{head.coreset_sample}'
    return f'{head.coreset}, seed {head.seed}' + f', of {drawn}' * bool(drawn)


def model_identity(model: nn.Module) -> Dict[str, str]:
    """What of a classifier decides the vectors of an image.

    The backbone counts by its weights and by its configuration, a neck and the
    data preprocessor by both together.

    Args:
        model (nn.Module): With ``backbone``, ``data_preprocessor`` and a
            :class:`MemoryBankHead`.
    """
    neck = getattr(model, 'neck', None)
    return dict(
        head_identity(model.head),
        backbone_weights=weights_digest(model.backbone),
        backbone_config=structure_digest(model.backbone),
        neck='None' if neck is None else _both(neck),
        data_preprocessor=_both(model.data_preprocessor),
        layer=str(getattr(model, 'layer', None) or 'last'),
    )


def _both(module: nn.Module) -> str:
    return digest(structure_digest(module) + weights_digest(module))


def differing(one: Mapping[str, str], two: Mapping[str, str]) -> List[str]:
    """Names of the pieces that are not the same."""
    return sorted(k for k in {*one, *two} if one.get(k) != two.get(k))


def check_options(
    head: Any, bank: MemoryBank, aside: Sequence[str] = ()
) -> None:
    """Raise ValueError unless a head like this one filled a bank.

    Args:
        head (MemoryBankHead): Its options and feature plane.
        bank (MemoryBank): What it does not know of its maker is not compared.
        aside (Sequence[str]): Pieces that are not compared.
    """
    own, its = head_identity(head), bank.identity
    for name in differing(own, its):
        if name in _ASKED and name in its and name not in aside:
            raise ValueError(
                f'head.{name}={own[name]} is not that of the head that filled '
                f'the bank, {its[name]}; set it to that, or fill the bank again'
            )


def check_bank(head: Any, bank: MemoryBank, aside: Sequence[str] = ()) -> None:
    """Raise ValueError unless a head's queries can be put to a bank.

    Args:
        head (MemoryBankHead): Its classes, too.
        bank (MemoryBank): See :func:`check_options`.
        aside (Sequence[str]): See :func:`check_options`.
    """
    if bank.channels not in (None, head.in_channels):
        raise ValueError(
            f'the bank has {bank.channels} channels, head.in_channels='
            f'{head.in_channels}; fill a bank with this backbone'
        )
    bank.check_labels(head.num_classes, 'head.bank')
    check_options(head, bank, aside)
