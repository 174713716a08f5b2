"""The U(1) loss."""

import math
from typing import Optional, Union

import torch
from torch import Tensor, nn

from ..geometry import to_unit
from ..geometry.energy import working_dtype
from .base import check_choice
from .constants import ConstantCache
from .targets import IGNORED, ClassTarget, Pull, as_table, as_target

_MODES = ('cosine', 'von_mises', 'mse')
_REDUCTIONS = ('none', 'mean', 'sum')


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
        kappa (float): Concentration of ``'von_mises'``, > 0.
        eps (float): Modulus under which a moment has no direction, > 0.
        reduction (str): ``'none'``, ``'mean'`` or ``'sum'``.
        ignore_index (int): Hard label whose samples count nothing.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        mode: str = 'cosine',
        loss_weight: float = 0.1,
        kappa: float = 1.0,
        eps: float = 1e-3,
        reduction: str = 'mean',
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__()
        check_choice('loss.mode', mode, _MODES)
        check_choice('loss.reduction', reduction, _REDUCTIONS)
        if not (loss_weight >= 0 and math.isfinite(loss_weight)):
            raise ValueError(
                f'loss.loss_weight={loss_weight} (lambda) must '
                'be a finite number >= 0; 0 switches the loss off'
            )
        if not (kappa > 0 and math.isfinite(kappa)):
            raise ValueError(f'loss.kappa={kappa} must be finite and > 0')
        if not (eps > 0 and math.isfinite(eps)):
            raise ValueError(f'loss.eps={eps} must be finite and > 0')
        self.mode = mode
        self.loss_weight = loss_weight
        self.kappa = kappa
        self.eps = eps
        self.reduction = reduction
        self.ignore_index = ignore_index
        self._constants = ConstantCache()
        # log I0 through the scaled Bessel function, which does not overflow.
        order_zero = torch.special.i0e(torch.tensor(float(kappa)).double())
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
            moment (Tensor): ``z``, ``(N, 2)``; of W windings, over which the
                loss is the mean, ``(N, W, 2)``; of every pixel,
                ``(N, P, 2)`` or ``(N, P, W, 2)``, with ``pixel_share``.
            target (Tensor | ClassTarget | Pull): Labels ``(N,)``, scores
                ``(N, K)``, or what :meth:`ClassTarget.pull` gave.
            class_points (Tensor): ``t_c``, ``(K, 2)`` or ``(K, W, 2)``, from
                :class:`ClassAngles`; not needed with a :class:`Pull`.
            weight (Tensor, optional): Of each sample, ``(N,)``.
            avg_factor (float, optional): Divides the sum with
                ``reduction='mean'``. Defaults to the number of samples that
                count: not ignored, not without a label.
            reduction_override (str, optional): In place of ``reduction``.
            pixel_share (Tensor, optional): ``E / sum E``, ``(N, P)``: the
                loss is then the mean over pixels with these weights.

        Returns:
            Tensor: Scalar, or ``(N,)`` with ``reduction='none'``; times
            ``loss_weight``.

        Raises:
            ValueError: If shapes or labels do not fit.
        """
        reduction = reduction_override or self.reduction
        check_choice('reduction_override', reduction, _REDUCTIONS)
        with torch.autocast(moment.device.type, enabled=False):
            moment = moment.to(working_dtype(moment.dtype))
            pull = self._pull(moment, target, class_points)
            eps = self._constants.get('eps', moment, self._make_eps)
            unit = to_unit(moment, eps)
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
            raise ValueError('class_points=None, but the targets are classes')
        target = as_target(target)
        if not torch.compiler.is_compiling() and not moment.is_cuda:
            target.check(len(class_points), len(moment), self.ignore_index)
        table = as_table(class_points.to(moment), target.smoothing)
        return target.pull(table, self.ignore_index)

    def _make_eps(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.full((), self.eps, dtype=dtype, device=device)

    def _mean(
        self, unit: Tensor, pull: Pull, pixel_share: Optional[Tensor]
    ) -> Tensor:
        """Mean of :meth:`_form` by one sum over the batch."""
        if pixel_share is not None:
            unit = _pixel_mean(unit, pixel_share)
        cosine = (unit * pull.vector).sum()
        if unit.ndim == 3:
            cosine = cosine / unit.size(1)
        # Negative factors instead of a subtraction spare the gradient a step.
        scale = -self.loss_weight * pull.per_image
        if self.mode == 'cosine':
            return torch.sub(cosine, pull.total, alpha=pull.level) * scale
        norm = self.log_norm * pull.level
        return torch.sub(self.kappa * cosine, pull.total, alpha=norm) * scale

    def _form(
        self, unit: Tensor, pull: Pull, pixel_share: Optional[Tensor]
    ) -> Tensor:
        """``sum_c p_c loss_c``, ``(N,)``."""
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


def _pixel_mean(values: Tensor, pixel_share: Tensor) -> Tensor:
    """``sum_p share_p values_p``, ``(N, P, ...) -> (N, ...)``."""
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
    if reduction == 'sum':
        if avg_factor is not None:
            raise ValueError('avg_factor can not be used with reduction="sum"')
        return loss.sum()
    if avg_factor is None:
        return loss.sum() * pull.per_image
    return loss.sum() / avg_factor
