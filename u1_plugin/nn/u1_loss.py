"""The U(1) loss."""

import math
from typing import Annotated, Literal, Optional, Union

import torch
from torch import Tensor, nn

from ..geometry import to_unit
from ..geometry.scales import check_real, without_autocast, working_dtype
from ..options import Positive, Range, check, checked
from .base import LARGEST, ConstantCache, Weight, tell_unread
from .targets import IGNORED, ClassTarget, Pull, as_table, as_target

_Reduction = Literal['none', 'mean', 'sum']
#: Its inverse bounds gradients, and is a float32, too.
_Eps = Annotated[float, Range(1e-30, LARGEST)]
_Kappa = Annotated[float, Range(0, LARGEST, low_open=True)]


class U1Loss(nn.Module):
    r"""Pulls the angle of a moment towards the angle of its class.

    With ``u = z / sqrt(|z|^2 + eps^2)``, ``t_c = exp(i theta_c)`` and
    ``cos(theta - theta_c) = Re(u conj(t_c))``, for a sample of class c:

    - ``'cosine'``: ``1 - Re(u conj(t_c))``, in ``[0, 2]``
    - ``'von_mises'``: ``-kappa Re(u conj(t_c)) + log(2 pi I0(kappa))``, the
      negative log-likelihood of the angle
    - ``'mse'``: ``|u - t_c|^2``, in ``[0, 4]``

    Soft targets ``p`` give ``sum_c p_c loss_c`` exactly and at the price of
    one class, because every form is linear in ``t_c``. Everything is computed
    in float32 or wider, whatever autocast says.

    Args:
        mode (str): ``'cosine'``, ``'von_mises'`` or ``'mse'``.
        loss_weight (float): lambda >= 0. Defaults to 0.1; 0 leaves the branch
            in place without effect, which is a control.
        kappa (float): Concentration of ``'von_mises'``, > 0; a warning says
            where another mode does not read it.
        eps (float): Modulus under which a moment has no direction, >= 1e-30.
        reduction (str): ``'none'``, ``'mean'`` or ``'sum'``.
        ignore_index (int): Hard label whose samples are not counted.

    Raises:
        ValueError: If an option is out of its range.

    Examples:
        >>> import torch
        >>> from u1_plugin.nn import ClassAngles, U1Loss
        >>> points = ClassAngles(num_classes=4, mode='uniform')()  # 0, 90, ...
        >>> moment = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # 0 degrees
        >>> loss = U1Loss(loss_weight=1.0, reduction='none')
        >>> loss(moment, torch.tensor([0, 2]), points).round()
        tensor([0., 2.])
    """

    #: Of one's own loss: the moments, :class:`Pull`, and pixels' shares.
    TAKES = ('moment', 'pull', 'pixel_share')

    @checked('loss')
    def __init__(
        self,
        mode: Literal['cosine', 'von_mises', 'mse'] = 'cosine',
        loss_weight: Weight = 0.1,
        kappa: _Kappa = 1.0,
        eps: _Eps = 1e-3,
        reduction: _Reduction = 'mean',
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__()
        if mode != 'von_mises':
            remedy = f"loss.mode={mode!r} has none; 'von_mises' has"
            tell_unread('loss.kappa', kappa, 1.0, remedy)
        self.mode = mode
        self.loss_weight = loss_weight
        self.kappa = kappa
        self.eps = eps
        self.reduction = reduction
        self.ignore_index = ignore_index
        self._constants = ConstantCache()
        # log I0 through the scaled Bessel function, which does not overflow.
        number = torch.tensor(float(kappa), dtype=torch.float64, device='cpu')
        order_zero = torch.special.i0e(number)
        self.log_norm = math.log(2 * math.pi * order_zero.item()) + kappa

    def forward(
        self,
        moment: Tensor,
        target: Union[Tensor, ClassTarget, Pull],
        class_points: Optional[Tensor] = None,
        weight: Optional[Tensor] = None,
        avg_factor: Optional[float] = None,
        reduction_override: Optional[str] = None,
        pixel_share: Optional[Tensor] = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            moment (Tensor): ``z``, ``(B, 2)``; of N windings, over which the
                loss is the mean, ``(B, N, 2)``; of every pixel,
                ``(B, P, 2)`` or ``(B, P, N, 2)``, with ``pixel_share``.
            target (Tensor | ClassTarget | Pull): Labels ``(B,)``, scores
                ``(B, K)``, or what :meth:`ClassTarget.pull` gave.
            class_points (Tensor): ``t_c``, ``(K, 2)`` or ``(K, N, 2)``, from
                :class:`ClassAngles`; not needed with a :class:`Pull`.
            weight (Tensor, optional): Of each sample, ``(B,)``.
            avg_factor (float, optional): Divides the sum with
                ``reduction='mean'``. Defaults to the number of samples that
                count: not ignored, not without a label.
            reduction_override (str, optional): In place of ``reduction``.
            pixel_share (Tensor, optional): ``E / sum E``, ``(B, P)``: the
                loss is then the mean over pixels with these weights.

        Returns:
            Tensor: Scalar, or ``(B,)`` with ``reduction='none'``; times
            ``loss_weight``.

        Raises:
            ValueError: If shapes or labels do not fit.
        """
        _check_shapes(moment, weight, pixel_share)
        if reduction_override not in (None, 'none', 'mean', 'sum'):
            check('reduction_override', reduction_override, _Reduction)
        if not torch.compiler.is_compiling():
            check('avg_factor', avg_factor, Union[None, Positive, Tensor])
        reduction: str = reduction_override or self.reduction
        with without_autocast(moment.device):
            moment = moment.to(working_dtype(moment.dtype))
            pull = self._pull(moment, target, class_points)
            _check_pull(moment, pull, pixel_share)
            eps = self._constant(self.eps, moment)
            # Those of a branch, which hands over a pull, are within a circle.
            unit = to_unit(moment, eps, scaled=isinstance(target, Pull))
            plain = weight is None and avg_factor is None
            if plain and reduction == 'mean' and self.mode != 'mse':
                return self._mean(unit, pull, pixel_share)
            loss = self._form(unit, pull, pixel_share)
            return self.loss_weight * _reduce(
                loss, pull, weight, reduction, avg_factor
            )

    def _pull(
        self,
        moment: Tensor,
        target: Union[Tensor, ClassTarget, Pull],
        class_points: Optional[Tensor],
    ) -> Pull:
        if isinstance(target, Pull):
            return target
        if class_points is None:
            raise ValueError(
                'class_points=None, but the targets are classes; hand over '
                'the points of ClassAngles, ClassAngles(...)()'
            )
        check_real('class_points', class_points)
        if class_points.ndim not in (2, 3) or class_points.size(-1) != 2:
            raise ValueError(
                f'class_points has shape {tuple(class_points.shape)}, but must '
                'hold a point a class, (K, 2), or one a winding, (K, N, 2)'
            )
        target = as_target(target)
        if not torch.compiler.is_compiling():
            target.check(
                len(class_points), len(moment), self.ignore_index, wait=False
            )
        table = as_table(class_points.to(moment), target.smoothing)
        return target.pull(table, self.ignore_index)

    def _constant(self, value: float, like: Tensor) -> Tensor:
        return self._constants.get(
            value,
            like,
            lambda dtype, device: torch.full(
                (), value, dtype=dtype, device=device
            ),
        )

    def _mean(
        self, unit: Tensor, pull: Pull, pixel_share: Optional[Tensor]
    ) -> Tensor:
        """Mean of :meth:`_form` by one sum over the batch."""
        if pixel_share is not None:
            unit = _pixel_mean(unit, pixel_share)
        windings = unit.size(1) if unit.ndim == 3 else 1
        kappa, norm = 1.0, 1.0
        if self.mode == 'von_mises':
            kappa, norm = self.kappa, self.log_norm
        # kappa * sum(unit * vector) - norm * total, in one operation.
        cosine = torch.addmv(
            pull.total.view(1),
            unit.reshape(1, -1),
            pull.vector.reshape(-1),
            beta=-norm * pull.level,
            alpha=kappa / windings,
        ).view(())
        return cosine * (self._constant(-self.loss_weight, unit) / pull.count)

    def _form(
        self, unit: Tensor, pull: Pull, pixel_share: Optional[Tensor]
    ) -> Tensor:
        """``sum_c p_c loss_c``, ``(B,)``."""
        square = unit.square().sum(-1, keepdim=True)
        if pixel_share is not None:
            unit = _pixel_mean(unit, pixel_share)
            square = _pixel_mean(square, pixel_share)
        cosine = (unit * pull.vector).sum(-1)
        square = square.squeeze(-1)
        if cosine.ndim == 2:
            cosine, square = cosine.mean(1), square.mean(1)
        share = pull.level * pull.share
        if self.mode == 'cosine':
            return share - cosine
        if self.mode == 'von_mises':
            return self.log_norm * share - self.kappa * cosine
        return share * (square + 1) - 2 * cosine

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}, loss_weight={self.loss_weight}'


def _check_shapes(
    moment: Tensor,
    weight: Optional[Tensor],
    pixel_share: Optional[Tensor],
) -> None:
    """Nothing may broadcast that is meant to be one an image."""
    tensors = dict(moment=moment, weight=weight, pixel_share=pixel_share)
    for name, values in tensors.items():
        if values is not None or name == 'moment':
            check_real(name, values)
    dims = (2, 3) if pixel_share is None else (3, 4)
    if moment.ndim not in dims or moment.size(-1) != 2:
        raise ValueError(
            f'moment has shape {tuple(moment.shape)}, but must be (B, 2), or '
            '(B, N, 2) of N windings, with P pixels after B if and only if '
            'pixel_share is given'
        )
    if weight is not None and weight.shape != moment.shape[:1]:
        raise ValueError(
            f'weight has shape {tuple(weight.shape)}, but there are '
            f'{len(moment)} moments; give one weight a sample, (B,)'
        )
    if pixel_share is not None and pixel_share.shape != moment.shape[:2]:
        raise ValueError(
            f'pixel_share has shape {tuple(pixel_share.shape)}, but the '
            f'moments {tuple(moment.shape)}; give one share a pixel, (B, P)'
        )


def _check_pull(
    moment: Tensor, pull: Pull, pixel_share: Optional[Tensor]
) -> None:
    shape = moment.shape
    if pixel_share is not None:
        shape = shape[:1] + shape[2:]
    if pull.vector.shape != shape:
        raise ValueError(
            f'the targets pull {tuple(pull.vector.shape)}, images and '
            f'windings, but the moments are of {tuple(shape)}; give one target '
            'an image, and class angles of as many windings as the neck has'
        )


def _pixel_mean(values: Tensor, pixel_share: Tensor) -> Tensor:
    """``sum_p share_p values_p``, ``(B, P, ...) -> (B, ...)``."""
    shares = pixel_share.view(*pixel_share.shape, *[1] * (values.ndim - 2))
    return (values * shares).sum(1)


def _reduce(
    loss: Tensor,
    pull: Pull,
    weight: Optional[Tensor],
    reduction: str,
    avg_factor: Optional[float],
) -> Tensor:
    """Reduce as MMPretrain's losses do, over the samples that count."""
    if weight is not None:
        loss = loss * weight
    if reduction == 'none':
        return loss
    if reduction == 'mean':
        return loss.sum() / (pull.count if avg_factor is None else avg_factor)
    if avg_factor is not None:
        raise ValueError('avg_factor can not be used with reduction="sum"')
    return loss.sum()
