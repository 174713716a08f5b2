"""timm's training tasks with the U(1) branch; no MM package is needed.

In a training script of timm's kind::

    task = U1ClassificationTask(model, criterion, u1=dict(), device=device)
    result = task(images, target)
    result['loss'].backward()
"""

try:
    # Tasks came by and by; this one came with what is needed here.
    from timm.task import MultiLabelClassificationTask as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        'u1_plugin.timm needs timm>=1.0.31 (and so Python >= 3.10) for its '
        "training tasks; install it by pip install 'u1_plugin[timm]'"
    ) from error

from .task import (
    U1ClassificationTask,
    U1MultiLabelClassificationTask,
    U1TaskMixin,
)

__all__ = [
    'U1ClassificationTask',
    'U1MultiLabelClassificationTask',
    'U1TaskMixin',
]
