"""Mixed precision where MMEngine has none: on the CPU."""

from contextlib import contextmanager
from typing import Any, Literal

import torch
from mmengine.optim import OptimWrapper

from ..options import checked


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

    @checked('optim_wrapper')
    def __init__(
        self,
        dtype: Literal['bfloat16'] = 'bfloat16',
        loss_scale: Any = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        """Gradient accumulation as ever, and autocast."""
        with super().optim_context(model):
            with torch.autocast('cpu', dtype=torch.bfloat16):
                yield
