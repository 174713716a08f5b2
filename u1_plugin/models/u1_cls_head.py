"""A classification head of any kind, trained with one-hot + U(1) loss."""

from typing import Any, List, Tuple

import torch
from mmengine.logging import MessageHub
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from .bottleneck_angle_neck import Moment, U1Feats
from .wrapping import WrappedClsHead, targets_of


@MODELS.register_module()
class U1ClsHead(WrappedClsHead):
    """Adds ``loss_u1`` to a classification head and changes nothing else.

    The object that is built *is* a head of the wrapped type: a subclass of
    both, made on the spot. Its parameters therefore keep their names
    (``head.fc.weight``) for checkpoints of the zoo, parameter-wise optimiser
    settings, EMA and sharding, and prediction, ``pre_logits`` and export are
    the wrapped type's own code. It needs :class:`BottleneckAngleNeck` before
    it. The total loss is ``loss + loss_u1``, with lambda in
    ``loss_u1.loss_weight``.

    With several layers or planes, ``loss_u1`` is their weighted sum, and the
    parts are logged as ``u1_{plane}_{layer}``, before weighting.

    Args:
        cls_head (dict): Config of any registered classification head. An
            inherited config's own is ``_base_.model.head``.
        loss_u1 (dict): Config of :class:`U1Loss`.
        class_angles (dict): Config of :class:`ClassAngles`. K is the wrapped
            head's ``num_classes``.

    Raises:
        TypeError: If ``cls_head`` is no config of a classification head.
        ValueError: If K is unknown or two places give different ones.
    """

    prefix = 'U1'

    def __init__(
        self,
        cls_head: dict,
        loss_u1: dict = dict(type='U1Loss'),
        class_angles: dict = dict(type='ClassAngles'),
    ) -> None:
        super().__init__(cls_head)
        self.loss_u1 = self._build(loss_u1, 'U1Loss')
        self.class_angles = self._build_angles(class_angles)
        self._checked = False

    def _build_angles(self, config: Any) -> nn.Module:
        classes = getattr(self, 'num_classes', None)
        known = {} if classes is None else dict(num_classes=classes)
        angles = self._build(config, 'ClassAngles', **known)
        if classes is not None and angles.num_classes != classes:
            raise ValueError(
                f'head.class_angles.num_classes={angles.num_classes}, but '
                f'head.cls_head.num_classes={classes}; leave the first out'
            )
        return angles

    @property
    def _name(self) -> str:
        return self._plain.__name__

    def pre_logits(self, feats) -> Tensor:
        """The wrapped head's, of the neck's output in either mode."""
        return super().pre_logits(_feats(feats))

    def forward(self, feats):
        """The wrapped head's, of the neck's output in either mode."""
        return super().forward(_feats(feats))

    def loss(
        self, feats: U1Feats, data_samples: List[DataSample], **kwargs
    ) -> dict:
        """One-hot loss and U(1) loss.

        Args:
            feats (U1Feats): From :class:`BottleneckAngleNeck` in training.
            data_samples (List[DataSample]): With ``gt_label``, or with
                ``gt_score`` after batch augmentation.
            **kwargs: For the wrapped head.

        Returns:
            dict[str, Tensor]: The wrapped head's items and ``loss_u1``.

        Raises:
            TypeError: If the neck is not :class:`BottleneckAngleNeck`.
            ValueError: If classes do not fit or a moment is not finite.
        """
        if not isinstance(feats, U1Feats):
            raise TypeError(
                f'model.head=U1ClsHead({self._name}) got {type(feats).__name__}'
                ' from model.neck, without moments; set model.neck=dict('
                "type='BottleneckAngleNeck', neck=<the neck it had>)"
            )
        target = self._target(data_samples)
        self._check(target, feats.moments)
        losses = super().loss(feats.feats, data_samples, **kwargs)
        losses.update(self._u1_losses(feats.moments, target))
        return losses

    def _u1_losses(self, moments: Tuple[Moment, ...], target: Tensor) -> dict:
        points = self.class_angles()
        values = [
            self.loss_u1(m.value, target, points, avg_factor=target.size(0))
            for m in moments
        ]
        total = sum(m.weight * value for m, value in zip(moments, values))
        losses = dict(loss_u1=total)
        if len(moments) > 1:
            # MMEngine adds up what has "loss" in its name: these have not.
            losses.update(
                {
                    f'u1_{m.plane}_{m.layer}': value.detach()
                    for m, value in zip(moments, values)
                }
            )
        return losses

    def _target(self, data_samples: List[DataSample]) -> Tensor:
        """The very targets of the one-hot loss, its label smoothing too."""
        target = targets_of(data_samples)
        smooth = (
            getattr(self.loss_module, 'smooth_label', None)
            if hasattr(self, 'loss_module')
            else None
        )
        if smooth is None:
            return target
        if target.ndim == 1:
            self._check_labels(target)
            target = nn.functional.one_hot(
                target, self.class_angles.num_classes
            )
        self.loss_module.num_classes = self.class_angles.num_classes
        return smooth(target.float())

    def _check(self, target: Tensor, moments: Tuple[Moment, ...]) -> None:
        """What no config can tell: data set, labels, finite activations.

        Reading a value back waits for a GPU, so there it happens at the first
        step only; MMEngine's ``CheckInvalidLossHook`` watches the rest.
        """
        if torch.compiler.is_compiling() or (self._checked and target.is_cuda):
            return
        if not self._checked:
            self._check_data_set()
        if target.ndim == 1:
            self._check_labels(target)
        for moment in moments:
            if not moment.value.isfinite().all():
                raise ValueError(
                    f'neck.layers: the {moment.plane} moment of layer '
                    f'{moment.layer} is not finite, so the activations hold '
                    'NaN or inf; lower the learning rate, clip gradients or '
                    'train without --amp'
                )
        self._checked = True

    def _check_data_set(self) -> None:
        hub = MessageHub.get_current_instance()
        # MMEngine keeps these two while, and only while, a runner trains.
        if hub.get_info('loop_stage') != 'train':
            return
        classes = (hub.get_info('dataset_meta') or {}).get('classes')
        expected = self.class_angles.num_classes
        if classes is not None and len(classes) != expected:
            raise ValueError(
                f'head.cls_head.num_classes={expected}, but the training data '
                f'set has {len(classes)} classes; set model.head.cls_head.'
                f'num_classes={len(classes)} or train on another data set'
            )

    def _check_labels(self, target: Tensor) -> None:
        classes = self.class_angles.num_classes
        valid = target[target != self.loss_u1.ignore_index]
        if (
            valid.numel()
            and not 0 <= int(valid.min()) <= int(valid.max()) < classes
        ):
            raise ValueError(
                f'the data set has labels {int(valid.min())}..'
                f'{int(valid.max())}, but head.cls_head.num_classes={classes} '
                f'allows 0..{classes - 1}; set it to the number of classes'
            )


def _feats(feats):
    return feats.feats if isinstance(feats, U1Feats) else feats
