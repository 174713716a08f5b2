"""Runs a network and puts it back as it was: its values and what it holds.

Some modules make tensors when they change their mode or when they run, some
children, and some write into their weights (ActNorm at its first batch,
embeddings with ``max_norm``) or count in a list.
"""

import copy
from collections import OrderedDict, deque
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Tuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_CONTAINERS = (dict, OrderedDict, list, set, deque)


def _contents(attributes: Dict[str, Any]) -> List[Tuple[Any, Any]]:
    """Containers among attributes, children and tensors among them: copies."""
    return [
        (value, copy.copy(value))
        for value in attributes.values()
        if type(value) in _CONTAINERS
    ]


def _put_back(container: Any, contents: Any) -> None:
    container.clear()
    if isinstance(container, (list, deque)):
        container.extend(contents)
    else:
        container.update(contents)


def _values(model: nn.Module) -> List[Tuple[Tensor, Tensor]]:
    """Parameters and buffers that have values, and copies of them."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        (tensor, tensor.detach().clone())
        for tensor in tensors
        if not is_lazy(tensor) and not tensor.is_meta
    ]


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """A block after which a network is what it was before.

    Modules, attributes, the contents of lists and dicts among these, weights
    and buffers; of other objects what they hold is not known. In the block
    there are copies of all weights.
    """
    scripted = [m for m in model.modules() if is_scripted(m)]
    modes = [module.training for module in scripted]
    states = [
        (module, dict(module.__dict__), _contents(module.__dict__))
        for module in model.modules()
        if not is_scripted(module)
    ]
    values = _values(model)
    try:
        yield
    finally:
        for module, attributes, contents in states:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for container, content in contents:
                _put_back(container, content)
        for module, mode in zip(scripted, modes):
            module.training = mode
        with torch.no_grad():
            for tensor, value in values:
                if not torch.equal(tensor, value):
                    tensor.copy_(value)


def is_scripted(module: nn.Module) -> bool:
    """Whether TorchScript runs a module, which then takes no hooks."""
    return isinstance(module, torch.jit.ScriptModule)
