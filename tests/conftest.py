import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))
try:
    from timm.task import MultiLabelClassificationTask as _  # noqa: F401
except ImportError:  # timm's tasks need Python 3.10
    collect_ignore = ['test_build.py', 'test_timm_targets.py']
    collect_ignore += ['test_timm_task.py']
# One thread: tests run side by side, a process a core.
torch.set_num_threads(1)
# A busy machine is no failure of a property.
settings.register_profile('default', deadline=None)
settings.load_profile('default')


@pytest.fixture(scope='session')
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope='session')
def environment() -> dict:
    """For the command-line tools that tests start."""
    return dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
