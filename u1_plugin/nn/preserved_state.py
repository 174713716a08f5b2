"""Runs a network and puts it back as it was.

Some modules make tensors when they change their mode or when they run, some
children, and some write into their weights (ActNorm at its first batch,
embeddings with ``max_norm``).
"""

from contextlib import contextmanager, suppress
from typing import Iterator, List, NamedTuple

import torch
from torch import Tensor, nn

#: What modules keep in dicts of their own, whose contents are put back.
_KEPT = ('_buffers', '_parameters', '_modules')


class _Value(NamedTuple):
    """A parameter or buffer, its memory and a copy of its numbers."""

    tensor: Tensor
    memory: Tensor
    numbers: Tensor


def _values(model: nn.Module) -> List[_Value]:
    """The values of plain tensors; others stay as the network leaves them."""
    return [
        _Value(tensor, tensor.detach(), tensor.detach().to('cpu', copy=True))
        for tensor in [*model.parameters(), *model.buffers()]
        if tensor.layout == torch.strided
        and not (tensor.is_meta or tensor.is_inference() or tensor.is_nested)
        and not tensor.is_quantized
    ]


def _put_back(value: _Value) -> None:
    tensor, memory, numbers = value
    moved = tensor.data_ptr() != memory.data_ptr()
    if moved or tensor.shape != memory.shape or tensor.dtype != memory.dtype:
        tensor.data = memory
    current = tensor.detach().cpu()
    # NaN where it was NaN is no change.
    unchanged = (current == numbers) | (
        (current != current) & (numbers != numbers)
    )
    if not unchanged.all():
        tensor.copy_(numbers)


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """A block after which a network is what it was before.

    That is its modules, their attributes, weights and buffers; not what the
    attributes hold, such as the entries of a list. In the block there is a copy
    of the weights in the memory of the processor.
    """
    states = [
        (
            module,
            dict(module.__dict__),
            [dict(getattr(module, kept)) for kept in _KEPT],
        )
        for module in model.modules()
        if not is_scripted(module)
    ]
    modes = [(m, m.training) for m in model.modules() if is_scripted(m)]
    values = _values(model)
    try:
        yield
    finally:
        for module, attributes, contents in states:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for kept, content in zip(_KEPT, contents):
                getattr(module, kept).clear()
                getattr(module, kept).update(content)
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for value in values:
                # Of tensors that cannot be compared or written, one by one.
                with suppress(RuntimeError, NotImplementedError, TypeError):
                    _put_back(value)


def is_scripted(module: nn.Module) -> bool:
    """Whether TorchScript runs a module, which then takes no hooks."""
    return isinstance(module, torch.jit.ScriptModule)
