"""The U(1) branch beside a classifier."""

import logging
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from ..geometry import mirrored, scales
from ..options import Count, checked, shown
from .base import Config, build
from .bottleneck_angle_neck import BottleneckAngleNeck, Moment
from .class_angles import ClassAngles
from .maps import MapSource
from .taps import MapReader
from .targets import IGNORED, ClassTarget, as_target
from .u1_loss import U1Loss

_PARTS = ('neck', 'class_angles', 'loss')
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

    Its parameters, if a plane is learned, belong in the optimizer; its
    ``state_dict``, the class angles above all, in the checkpoint.

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
        prefix = 'automatically chosen: ' if neck.layers == 'auto' else ''
        reader = MapReader(model, neck.layers, neck.token_grid, once=True)
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
        num_angles = self.class_angles.num_classes
        if num_classes not in (None, num_angles):
            raise ValueError(
                f'u1.class_angles.num_classes={num_angles}, but the head has '
                f'num_classes={num_classes}; leave the first out'
            )
        self._reader = reader
        self._checked = False
        reader.attach()  # last, so that no error leaves a hook behind
        mode = getattr(self.class_angles, 'mode', '?')
        for source in reader.sources:
            _logger.info(
                f'U(1) branch: {prefix}{source}, plane={neck.plane!r}, '
                f'{num_angles} class angles ({mode})'
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

        Outside :meth:`reading` only ``torch.jit.script`` and pickles meet them.
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
            moved = fn(tensor)
            if moved.is_floating_point() and torch.finfo(moved.dtype).bits < 32:
                return tensor.to(moved.device)
            return moved

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
        first = moments[0].value
        self.check_target(target, len(first))
        self._check_finite(moments)
        with scales.without_autocast(first.device):
            table = self.class_angles.table(first, target.smoothing)
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
                # MMEngine adds up what has "loss" in its name: not these.
                name = f'u1_{moment.plane}_{moment.layer}'.replace('loss', 'l')
                losses[name] = value.detach()
        return losses

    def moments(self) -> Tuple[Moment, ...]:
        """Moments of the forward pass that has just been read."""
        maps = self._reader.maps()
        trains = self.training and torch.is_grad_enabled()
        for source, activation in zip(self.sources, maps):
            if trains and not activation.requires_grad:
                raise ValueError(
                    f'u1.neck.layers: {source.layer!r} gives a map without '
                    'gradient, so the U(1) loss could train nothing: it lies '
                    'in a part that gradient checkpointing runs without a '
                    'graph (with_cp) or that is frozen. Name the checkpointed '
                    'block itself, or a layer that trains'
                )
        moments: Tuple[Moment, ...] = self.neck(maps)
        return moments

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
        """Raise ValueError unless targets fit, as ``forward`` does too.

        On the CPU at every step. A GPU is waited for in the first step alone;
        later ones compare shapes, and the GPU itself stops at scores that are
        NaN or negative and at labels whose class point is not there.
        """
        if not torch.compiler.is_compiling():
            classes, ignored = self.class_angles.num_classes, self._ignore_index
            target.check(classes, batch_size, ignored, not self._checked)

    def _check_finite(self, moments: Tuple[Moment, ...]) -> None:
        """In the first step; later ones show in the log."""
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


def _weighted(moments: Tuple[Moment, ...], values: List[Tensor]) -> Tensor:
    """``sum weight * value`` in as few operations as the weights allow."""
    weights = [moment.weight for moment in moments]
    # A compiler may hold the weights as symbols, which no set takes.
    if torch.compiler.is_compiling() or len(set(weights)) > 1:
        parts = [weight * value for weight, value in zip(weights, values)]
        return sum(parts[1:], parts[0])
    total = sum(values[1:], values[0])
    return total if weights[0] == 1 else weights[0] * total


def build_branch(
    field: str,
    model: nn.Module,
    u1: Optional[Dict[str, Any]],
    num_classes: Optional[int],
    silent: str,
    no_flips: Optional[str] = None,
) -> U1Branch:
    """The branch of a framework's classifier, from the options of ``field``.

    For messages, ``silent`` is what does not say K if ``num_classes`` is None,
    and ``no_flips`` why ``neck.flip='follow'`` cannot be served.

    Raises:
        ValueError: If an option is unknown or does not fit, or K is not known.
    """
    if u1 is not None and not isinstance(u1, dict):
        raise ValueError(
            f'{field}={shown(u1)} must be a dict with any of '
            f'{", ".join(_PARTS)}, such as dict(neck=dict(plane="image"))'
        )
    options = dict(u1 or {})
    unknown = [name for name in options if name not in _PARTS]
    if unknown:
        raise ValueError(
            f'{field} has no {unknown[0]!r}; it takes {", ".join(_PARTS)}'
        )
    angles = options.get('class_angles') or {}
    # A module knows its own number; what is neither is refused when built.
    if num_classes is None and isinstance(angles, dict):
        if angles.get('num_classes') is angles.get('file') is None:
            raise ValueError(
                f'{silent} does not say how many classes there are '
                f'(num_classes); set {field}.class_angles.num_classes'
            )
    try:
        branch = U1Branch(model, num_classes, **options)
    except (ValueError, TypeError, FileNotFoundError) as error:
        # The branch calls itself u1; where that is, is known here.
        parent = field[: -len('u1')]
        if parent and str(error).startswith('u1.'):
            raise type(error)(f'{parent}{error}') from error
        raise
    if no_flips is not None and branch.neck.flip == 'follow':
        branch.detach()  # no error leaves a hook behind
        raise ValueError(f"{field}.neck.flip='follow', but {no_flips}")
    return branch
