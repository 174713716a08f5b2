"""The U(1) branch beside a classifier."""

import logging
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from ..geometry import mirrored
from ..options import Count, checked
from .base import Config, build
from .bottleneck_angle_neck import BottleneckAngleNeck, Moment
from .class_angles import ClassAngles
from .maps import MapSource
from .taps import MapReader
from .targets import IGNORED, ClassTarget, as_target
from .u1_loss import U1Loss

_logger = logging.getLogger('u1_plugin')


class U1Branch(nn.Module):
    """Reads a network's bottleneck maps and gives the U(1) loss.

    The network stays what it is: the maps are read by forward hooks while
    :meth:`reading`, and in evaluation nothing of this runs. In a plain PyTorch
    loop::

        branch = U1Branch(model, num_classes=10)
        with branch.reading():
            logits = model(images)
        loss = criterion(logits, labels) + branch(labels)['loss_u1']

    Its parameters, if a plane is learned, belong into the optimiser; its
    ``state_dict``, the class angles above all, into the checkpoint.

    Args:
        model (nn.Module): The network whose maps are read. It does not become
            a part of the branch.
        num_classes (int, optional): K; None: what ``class_angles`` says.
        neck (dict | nn.Module, optional): :class:`BottleneckAngleNeck`.
        class_angles (dict | nn.Module, optional): :class:`ClassAngles`.
        loss (dict | nn.Module, optional): :class:`U1Loss`, which holds lambda.

    Raises:
        ValueError: If an option is out of its range, a layer cannot be read,
            or two places give different K.

    Examples:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from u1_plugin.nn import U1Branch
        >>> model = resnet18(num_classes=10)
        >>> branch = U1Branch(model, num_classes=10)
        >>> with branch.reading():
        ...     logits = model(torch.randn(2, 3, 64, 64))
        >>> branch(torch.tensor([3, 7]))['loss_u1'].backward()
    """

    @checked('u1')
    def __init__(
        self,
        model: nn.Module,
        num_classes: Optional[Count] = None,
        neck: Config = None,
        class_angles: Config = None,
        loss: Config = None,
    ) -> None:
        super().__init__()
        neck = build('u1.neck', neck, BottleneckAngleNeck)
        automatic = neck.layers == 'auto'
        reader = MapReader(model, neck.layers, neck.token_grid)
        neck.connect(
            [source.shape[0] for source in reader.sources],
            [source.layer for source in reader.sources],
        )
        options: Dict[str, Any] = dict(windings=len(neck.windings))
        if num_classes is not None:
            options['num_classes'] = num_classes
        self.neck = neck
        self.class_angles = build(
            'u1.class_angles', class_angles, ClassAngles, **options
        )
        self.loss = build('u1.loss', loss, U1Loss)
        self._check_classes(num_classes)
        self._reader = reader
        self._checked = False
        reader.attach()  # last, so that no error leaves a hook behind
        for source in reader.sources:
            _logger.info(
                'U(1) branch: %s%s, plane=%r, %d class angles (%s)',
                'automatically chosen: ' if automatic else '',
                source,
                neck.plane,
                self.class_angles.num_classes,
                getattr(self.class_angles, 'mode', '?'),
            )

    def _check_classes(self, num_classes: Optional[int]) -> None:
        found = self.class_angles.num_classes
        if num_classes is not None and found != num_classes:
            raise ValueError(
                f'u1.class_angles.num_classes={found}, but the head has '
                f'num_classes={num_classes}; leave the first out'
            )

    @property
    def sources(self) -> List[MapSource]:
        """Where the maps are read: :class:`~u1_plugin.nn.layers.MapSource`."""
        return self._reader.sources

    @property
    def _ignore_index(self) -> int:
        return getattr(self.loss, 'ignore_index', IGNORED)

    def reading(self) -> MapReader:
        """A context in which the network's forward pass is read."""
        return self._reader

    def detach(self) -> None:
        """Take the hooks off the network, for good or until ``train()``.

        They do nothing outside :meth:`reading`, but ``torch.jit.script`` and
        pickles of the network would meet them.
        """
        self._reader.detach()

    def train(self, mode: bool = True) -> 'U1Branch':
        """Also hook modules that took another's place, such as SyncBN."""
        if mode:
            self._reader.attach()
        return super().train(mode)

    def _apply(
        self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any
    ) -> 'U1Branch':
        """Move and convert, but keep 32 bits: angles need them."""

        def convert(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            if found.is_floating_point() and torch.finfo(found.dtype).bits < 32:
                return tensor.to(found.device)
            return found

        super()._apply(convert, *args, **kwargs)  # type: ignore[no-untyped-call]
        return self

    def forward(
        self,
        target: Union[Tensor, ClassTarget],
        flips: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """The loss of the forward pass that has just been read.

        Args:
            target (Tensor | ClassTarget): Labels ``(B,)``, scores ``(B, K)``
                or, for several labels an image, :class:`ClassTarget`.
            flips (Tensor, optional): ``(B, 2)``, bool: which images were
                mirrored horizontally and vertically; for
                ``neck.flip='follow'``.

        Returns:
            dict[str, Tensor]: ``loss_u1``, and with several layers or planes
            their parts before weighting, detached, as ``u1_{plane}_{layer}``.

        Raises:
            ValueError: If a layer did not run, has no map or no gradient, or
                targets do not fit.
        """
        try:
            moments = self.moments()
        finally:
            self._reader.clear()
        target = as_target(target)
        self._check(target, moments)
        with torch.autocast(moments[0].value.device.type, enabled=False):
            return self._losses(moments, target, flips)

    def moments(self) -> Tuple[Moment, ...]:
        """Moments of the forward pass that has just been read.

        Raises:
            ValueError: If a layer did not run, has no map or no gradient.
        """
        maps = self._reader.maps()
        if self.training and torch.is_grad_enabled():
            for source, activation in zip(self.sources, maps):
                if not activation.requires_grad:
                    raise ValueError(
                        f'u1.neck.layers: {source.layer!r} gives a map without '
                        'gradient, so the U(1) loss could train nothing: it '
                        'lies in a part that gradient checkpointing runs '
                        'without a graph (with_cp) or that is frozen. Name '
                        'the checkpointed block itself, or a layer that '
                        'trains'
                    )
        moments: Tuple[Moment, ...] = self.neck(maps)
        return moments

    def _losses(
        self,
        moments: Tuple[Moment, ...],
        target: ClassTarget,
        flips: Optional[Tensor],
    ) -> Dict[str, Tensor]:
        table = self.class_angles.table(moments[0].value, target.smoothing)
        pull = target.pull(table, self._ignore_index)
        values = [
            self.loss(
                self._mirrored(moment, flips),
                pull,
                pixel_share=moment.pixel_share,
            )
            for moment in moments
        ]
        losses = dict(loss_u1=_weighted(moments, values))
        if len(moments) > 1:
            for moment, value in zip(moments, values):
                losses[_name(moment)] = value.detach()
        return losses

    def _mirrored(self, moment: Moment, flips: Optional[Tensor]) -> Tensor:
        if self.neck.flip == 'ignore' or moment.plane != 'image':
            return moment.value
        if flips is None:
            raise ValueError(
                "u1.neck.flip='follow', but nothing says which images were "
                "mirrored; hand over flips, or set u1.neck.flip='ignore'"
            )
        return mirrored(moment.value, flips, self.neck.windings)

    def check_target(self, target: ClassTarget, batch_size: int) -> None:
        """Whether targets fit, as ``forward`` checks them too.

        On the CPU at every step. A GPU is waited for in the first step alone;
        later ones compare shapes, and the GPU itself stops at scores that are
        NaN or negative and at labels whose class point is not there.

        Raises:
            ValueError: If not.
        """
        if torch.compiler.is_compiling():
            return
        target.check(
            self.class_angles.num_classes,
            batch_size,
            self._ignore_index,
            wait=not self._checked,
        )

    def _check(self, target: ClassTarget, moments: Tuple[Moment, ...]) -> None:
        """What no config can tell.

        A loss that is not finite after the first step is seen in the log and
        by MMEngine's ``CheckInvalidLossHook``.
        """
        self.check_target(target, len(moments[0].value))
        if self._checked or torch.compiler.is_compiling():
            return
        for moment in moments:
            if not moment.value.isfinite().all():
                raise ValueError(
                    f'u1.neck.layers: the {moment.plane} moment of layer '
                    f'{moment.layer!r} is not finite, so the activations hold '
                    'NaN or inf; lower the learning rate, clip gradients or '
                    'train without AMP'
                )
        self._checked = True


def _name(moment: Moment) -> str:
    # MMEngine adds up what has "loss" in its name: these must not.
    return f'u1_{moment.plane}_{moment.layer}'.replace('loss', 'l')


def _weighted(moments: Tuple[Moment, ...], values: List[Tensor]) -> Tensor:
    """``sum weight * value`` in as few operations as the weights allow."""
    weights = [moment.weight for moment in moments]
    # A compiler may hold the weights as symbols, which no set takes.
    if torch.compiler.is_compiling() or len(set(weights)) > 1:
        total = weights[0] * values[0]
        for weight, value in zip(weights[1:], values[1:]):
            total = total + weight * value
        return total
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total if weights[0] == 1 else weights[0] * total
