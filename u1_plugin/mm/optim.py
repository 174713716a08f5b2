"""Mixed precision where MMEngine has none: on the CPU."""

from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper

from ..nn.base import check_choice


class CPUAmpOptimWrapper(OptimWrapper):
    """Autocast to bfloat16 on the CPU; MMEngine's own wrapper wants a GPU.

    ``tools/train.py --amp`` chooses it on a machine without a GPU.

    Args:
        dtype (str): ``'bfloat16'``, the only one that CPUs autocast to.
        loss_scale: Accepted because ``--amp`` sets it, and not used: bfloat16
            has float32's range, so gradients need no scaling.
        **kwargs: For :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ValueError: If ``dtype`` is another.
    """

    def __init__(
        self, dtype: str = 'bfloat16', loss_scale: Any = None, **kwargs
    ) -> None:
        check_choice('optim_wrapper.dtype', dtype, ('bfloat16',))
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        """Gradient accumulation as ever, and autocast."""
        with super().optim_context(model):
            with torch.autocast('cpu', dtype=torch.bfloat16):
                yield
