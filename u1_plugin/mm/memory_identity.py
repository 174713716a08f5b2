"""What made a memory bank, as pieces that can be compared one by one."""

import hashlib
from typing import Any, Dict, Sequence

from torch import nn

from ..memory import MemoryBank
from ..memory.bank_state import differing
from ..networks import structure_digest, weights_digest

#: Without these a head's queries cannot be compared with a bank; its other
#: options (dtype, keep, coreset) only say how much the bank holds.
_COMPARED = ('in_channels', 'num_classes', 'mode', 'orthant', 'feature_plane')


def digest(text: str) -> str:
    """A short name of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def head_identity(head: nn.Module) -> Dict[str, str]:
    """What of a :class:`MemoryBankHead` decides the content of its bank."""
    coreset, sample = head.coreset, head.coreset_sample
    if coreset is not None:
        drawn = '' if sample is None else f', of {sample}'
        metric = '' if head.metric == 'cosine' else f', by {head.metric}'
        coreset = f'{coreset}, seed {head.seed}{drawn}{metric}'
    names = ('mode', 'orthant', 'keep', 'dtype', 'in_channels', 'num_classes')
    pieces = {name: str(getattr(head, name)) for name in names}
    plane = _both(head.feature_plane)
    return dict(pieces, coreset=str(coreset), feature_plane=plane)


def model_identity(model: nn.Module) -> Dict[str, str]:
    """What of a classifier with a memory decides the vectors of an image.

    The backbone counts by its weights and by its configuration, a neck and the
    data preprocessor by both together.
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


def check_options(
    head: Any, bank: MemoryBank, aside: Sequence[str] = ()
) -> None:
    """Raise ValueError unless a head like this one filled a bank.

    What the bank does not know of its maker is not compared, nor is what is
    set ``aside``, names of pieces.
    """
    options, stored = head_identity(head), bank.identity
    for name in differing(options, stored):
        if name in _COMPARED and name in stored and name not in aside:
            if name == 'feature_plane':  # whose value is a digest
                raise ValueError(
                    'model.head.feature_plane has other options or weights '
                    'than that of the head that filled the bank; use the '
                    'config and the checkpoint that filled it, or fill the '
                    'bank again'
                )
            raise ValueError(
                f'model.head.{name}={options[name]} is not that of the head '
                f'that filled the bank, {stored[name]}; set it to that, or '
                'fill the bank again'
            )


def check_bank(head: Any, bank: MemoryBank, aside: Sequence[str] = ()) -> None:
    """Raise ValueError unless a head's queries can be put to a bank.

    Its channels and labels fit, and so does :func:`check_options`.
    """
    if bank.channels not in (None, head.in_channels):
        raise ValueError(
            f'the bank has {bank.channels} channels, model.head.in_channels='
            f'{head.in_channels}; fill a bank with this backbone'
        )
    bank.check_labels(head.num_classes, 'model.head.bank')
    check_options(head, bank, aside)
