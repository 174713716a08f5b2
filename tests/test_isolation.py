import logging
import os
import random
import sys

import matplotlib
import numpy as np
import pytest
import torch
from isolation import isolated
from matplotlib import pyplot
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS


def _disturb(folder) -> None:
    """As many kinds of state as a careless test may leave behind."""
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    np.seterr(all='ignore')
    os.environ['U1_LEFT_BEHIND'] = '1'
    os.environ.pop('PATH')
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    (folder / 'left_behind.py').write_text('')
    __import__('left_behind')
    DefaultScope.get_instance('left', scope_name='mmpretrain')
    MessageHub.get_instance('left').update_info('a', 1)
    MMLogger.get_instance('left', log_file=str(folder / 'a.log'))
    logging.getLogger().addHandler(logging.FileHandler(folder / 'b.log'))
    logging.getLogger('u1_plugin').setLevel(logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    MODELS.register_module(name='LeftBehind', module=_disturb)
    MODELS.register_module(name='ResNet', module=_disturb, force=True)
    matplotlib.rcParams['font.size'] = 99
    pyplot.figure()


def _state() -> dict:
    return dict(
        random=random.random(),
        numpy=np.random.rand(),
        torch=torch.rand(1).item(),
        dtype=torch.get_default_dtype(),
        grad=torch.is_grad_enabled(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        benchmark=torch.backends.cudnn.benchmark,
        errors=np.geterr(),
        environment=dict(os.environ),
        folder=os.getcwd(),
        path=list(sys.path),
        module='left_behind' in sys.modules,
        scope=DefaultScope.get_current_instance(),
        hub=MessageHub.check_instance_created('left'),
        logger=MMLogger.check_instance_created('left'),
        handlers=list(logging.getLogger().handlers),
        level=logging.getLogger('u1_plugin').level,
        disabled=logging.root.manager.disable,
        registered=MODELS.get('LeftBehind'),
        replaced=MODELS.get('ResNet'),
        font=matplotlib.rcParams['font.size'],
        figures=pyplot.get_fignums(),
    )


def test_nothing_is_left_behind(tmp_path):
    with isolated(tmp_path):
        before = _state()
    with isolated(tmp_path):
        _disturb(tmp_path)
    with isolated(tmp_path):
        assert _state() == before


def test_handlers_that_were_added_are_closed(tmp_path):
    with isolated(tmp_path):
        handler = logging.FileHandler(tmp_path / 'a.log')
        logging.getLogger().addHandler(handler)
        logging.getLogger().error('opens the file')
    assert handler.stream is None


def test_components_of_packages_stay(tmp_path):
    """They are registered when first looked up, and never again."""
    component = MODELS.get('ResNet')
    with isolated(tmp_path):
        MODELS.register_module(name='U1LookedUpLate', module=component)
    assert MODELS.module_dict.pop('U1LookedUpLate') is component


@pytest.mark.parametrize('size', [5, 7, 9])
def test_compiled_for_one_size_only(size):
    """A neighbour's size would make the compiler try symbolic sizes."""
    seen = []

    def record(graph, inputs):
        seen.append(inputs)
        return graph.forward

    torch.compile(_double, backend=record)(torch.ones(size))
    assert [len(inputs) for inputs in seen] == [1]


def _double(values: torch.Tensor) -> torch.Tensor:
    return 2 * values
