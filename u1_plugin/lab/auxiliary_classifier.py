"""MMPretrain's classifier with another loss beside the one-hot loss."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional

from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..mm.sample_targets import targets_of


class AuxiliaryImageClassifier(ImageClassifier):
    """MMPretrain's ``ImageClassifier`` with ``loss_aux`` beside the head's.

    Args:
        auxiliary (dict): Config of an
            :class:`~u1_plugin.lab.auxiliary_losses.AuxiliaryLoss` of the vector
            that the head's last layer takes; its K is the head's, and its C
            that of the vector.
        *args, **kwargs: Of ``ImageClassifier``.

    Raises:
        ValueError: If the head has no K or C.
    """

    def __init__(
        self,
        *args,
        auxiliary: dict = dict(type='CenterLoss'),
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(auxiliary, dict):
            raise ValueError(
                f'model.auxiliary={auxiliary!r} must be a dict of options, '
                "such as dict(type='CenterLoss')"
            )
        sizes = dict(
            num_classes=getattr(self.head, 'num_classes', None),
            in_channels=_last_channels(self.head),
        )
        pre_logits = getattr(self.head, 'pre_logits', None)
        for name, value in dict(sizes, pre_logits=pre_logits).items():
            if value is None:
                raise ValueError(
                    f'model.head={type(self.head).__name__} has no {name}, '
                    'which an auxiliary loss needs; use LinearClsHead'
                )
        self.auxiliary = MODELS.build(
            {'type': 'CenterLoss', **sizes, **auxiliary}
        )

    def loss(self, inputs: Tensor, data_samples: list) -> Dict[str, Tensor]:
        """The head's items and ``loss_aux``.

        Args:
            inputs (Tensor): ``(B, C, H, W)``.
            data_samples (List[DataSample]): With ``gt_label``, or with
                ``gt_score`` after batch augmentation.
        """
        feats = self.extract_feat(inputs)
        with _pre_logits(self.head) as vectors:
            losses = self.head.loss(feats, data_samples)
        # A head's loss may go another way.
        last = vectors[-1] if vectors else self.head.pre_logits(feats)
        target = targets_of(data_samples).values
        losses['loss_aux'] = self.auxiliary(last, target)
        return losses


def _last_channels(head: nn.Module) -> Optional[int]:
    """Channels of the vector that a head's last layer takes, if it says."""
    hidden = getattr(head, 'mid_channels', None)
    if hidden:
        return hidden[-1]
    return getattr(head, 'hidden_dim', None) or getattr(
        head, 'in_channels', None
    )


@contextmanager
def _pre_logits(head: nn.Module) -> Iterator[List[Tensor]]:
    """What a head hands its last layer, while the block runs.

    Asking again would run hidden layers twice: their batch norms would count
    two steps, and dropout would hand the last layer another vector.
    """
    vectors: List[Tensor] = []
    method = head.pre_logits

    def recorded(feats: Any) -> Tensor:
        vectors.append(method(feats))
        return vectors[-1]

    head.pre_logits = recorded
    try:
        yield vectors
    finally:
        # Not `del`, which a compiler looks for in the class.
        vars(head).pop('pre_logits', None)
