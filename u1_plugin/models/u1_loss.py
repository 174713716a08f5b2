"""The U(1) loss."""

import math
from typing import Optional

import torch
from mmpretrain.models.losses.utils import weight_reduce_loss
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..geometry import to_unit
from .base import check_choice


@MODELS.register_module()
class U1Loss(nn.Module):
    r"""Pulls the angle of a moment towards the angle of its class.

    With ``u = z / sqrt(|z|^2 + eps^2)``, ``t_c = exp(i theta_c)`` and
    ``cos(theta - theta_c) = Re(u conj(t_c))``, for a sample of class c:

    - ``'cosine'``: ``1 - Re(u conj(t_c))``, in ``[0, 2]``
    - ``'von_mises'``: ``-kappa Re(u conj(t_c)) + log(2 pi I0(kappa))``, the
      negative log-likelihood of the angle
    - ``'mse'``: ``|u - t_c|^2``, in ``[0, 4]``

    Soft targets ``p`` give ``sum_c p_c loss_c`` exactly and at the price of
    one class, because every form is linear in ``t_c``.

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
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        check_choice('loss_u1.mode', mode, ('cosine', 'von_mises', 'mse'))
        check_choice('loss_u1.reduction', reduction, ('none', 'mean', 'sum'))
        if not (loss_weight >= 0 and math.isfinite(loss_weight)):
            raise ValueError(
                f'loss_u1.loss_weight={loss_weight} (lambda) must '
                'be a finite number >= 0; 0 switches the loss off'
            )
        if not (kappa > 0 and math.isfinite(kappa)):
            raise ValueError(f'loss_u1.kappa={kappa} must be finite and > 0')
        if not (eps > 0 and math.isfinite(eps)):
            raise ValueError(f'loss_u1.eps={eps} must be finite and > 0')
        self.mode = mode
        self.loss_weight = loss_weight
        self.kappa = kappa
        self.eps = eps
        self.reduction = reduction
        self.ignore_index = ignore_index
        # log I0 through the scaled Bessel function, which does not overflow.
        order_zero = torch.special.i0e(torch.tensor(float(kappa)).double())
        self.log_norm = math.log(2 * math.pi * order_zero.item()) + kappa

    def forward(
        self,
        moment: Tensor,
        target: Tensor,
        class_points: Tensor,
        weight: Optional[Tensor] = None,
        avg_factor: Optional[float] = None,
        reduction_override: Optional[str] = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            moment (Tensor): ``z``, ``(N, 2)``.
            target (Tensor): Labels ``(N,)`` or scores ``(N, K)``.
            class_points (Tensor): ``t_c``, ``(K, 2)``, from
                :class:`ClassAngles`.
            weight (Tensor, optional): Of each sample, ``(N,)``.
            avg_factor (float, optional): Divides the sum with
                ``reduction='mean'``. Defaults to the number of samples that
                are not ignored.
            reduction_override (str, optional): In place of ``reduction``.

        Returns:
            Tensor: Scalar, or ``(N,)`` with ``reduction='none'``; times
            ``loss_weight``.

        Raises:
            ValueError: If the shapes do not fit.
        """
        reduction = reduction_override or self.reduction
        check_choice('reduction_override', reduction, ('none', 'mean', 'sum'))
        points = class_points.to(moment)
        valid = None
        if target.ndim == 1:
            valid = target != self.ignore_index
            share = valid.to(moment)
            pull = points[torch.where(valid, target, 0)] * share[:, None]
        elif target.ndim == 2 and target.size(1) == len(points):
            scores = target.to(moment)
            share = scores.sum(1)
            pull = scores @ points
        else:
            raise ValueError(
                f'target has shape {tuple(target.shape)}, but must hold '
                f'labels, (N,), or scores of the K={len(points)} classes, '
                f'(N, {len(points)})'
            )
        loss = self._form(to_unit(moment, self.eps), pull, share)
        if avg_factor is None and valid is not None and reduction == 'mean':
            avg_factor = valid.sum().clamp(min=1)
        return self.loss_weight * weight_reduce_loss(
            loss, weight, reduction, avg_factor
        )

    def _form(self, unit: Tensor, pull: Tensor, share: Tensor) -> Tensor:
        """``sum_c p_c loss_c`` from ``pull = sum_c p_c t_c`` and
        ``share = sum_c p_c``."""
        cosine = (unit * pull).sum(-1)
        if self.mode == 'cosine':
            return share - cosine
        if self.mode == 'von_mises':
            return self.log_norm * share - self.kappa * cosine
        return share * (unit.square().sum(-1) + 1) - 2 * cosine

    def extra_repr(self) -> str:
        return f'mode={self.mode!r}, loss_weight={self.loss_weight}'
