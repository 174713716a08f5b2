import logging
import os
import re
import sys
from pathlib import Path
from typing import Iterator, List

import pytest
import torch
from hypothesis import Phase, settings

ROOT = Path(__file__).resolve().parent.parent
# What test files share is imported by its name, from any of their folders.
TESTS = Path(__file__).parent
sys.path[:0] = sorted({str(file.parent) for file in TESTS.rglob('*.py')})
try:
    from timm.task import MultiLabelClassificationTask as _  # noqa: F401
except ImportError:  # timm's tasks need Python 3.10
    uses = re.compile(
        r'^(from|import) (u1_plugin\.timm|timm\.task|timm_ranks)', re.M
    )
    collect_ignore = [
        str(file.relative_to(TESTS))
        for file in TESTS.rglob('test_*.py')
        if uses.search(file.read_text())
    ]
# Numbers and forked processes are tested on the CPU; of a GPU, if it is asked
# for, there is tests/memory/test_device_copy.py.
if not os.environ.get('U1_TEST_GPU'):
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
# One thread: tests run side by side, a process a core.
torch.set_num_threads(1)
# A busy machine is no failure of a property.
settings.register_profile('default', deadline=None)
# The same few examples for every mutant, and no search for the smallest.
settings.register_profile(
    'mutants',
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile('default')


def pytest_configure(config: pytest.Config) -> None:
    """Random order, but the same numbers in every order."""
    config.option.randomly_reset_seed = False


@pytest.fixture(scope='module', autouse=True)
def _isolated_file(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    from isolation import isolated

    with isolated(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(autouse=True)
def _isolated_test(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    from isolation import isolated

    with isolated(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope='session')
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope='session')
def environment() -> dict:
    """For the command-line tools that tests start."""
    return dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))


@pytest.fixture
def messages() -> Iterator[List[str]]:
    """What the plugin logs; caplog may be cut off by MMEngine's loggers."""
    logger, logged = logging.getLogger('u1_plugin'), []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    logger.addHandler(handler)
    yield logged
    logger.removeHandler(handler)
