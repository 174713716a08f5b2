"""What several rooms ask of a network."""

import functools
import hashlib
import re
import sys
from contextlib import contextmanager, suppress
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Set, Tuple

import numpy as np
from torch import Tensor, nn, strided, uint8

#: The children of wrappers (DDP, FSDP, compiled and averaged models, MMEngine's
#: test-time augmentation), the wrapped model last.
_WRAPPERS = (
    ('module',),
    ('_fsdp_wrapped_module',),
    ('_orig_mod',),
    ('data_preprocessor', 'module'),
)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where a wrapper distributes, compiles or averages it.

    A wrapper is a module whose only children have the names that PyTorch's
    and MMEngine's wrappers use; a model under test-time augmentation
    (``--tta``) is in one too.
    """
    names = tuple(sorted(model._modules))
    if names not in _WRAPPERS:
        return model
    wrapped = model._modules[names[-1]]
    return model if wrapped is None else unwrapped(wrapped)


def find_module(model: nn.Module, name: str, field: str) -> nn.Module:
    """The module of a name as in ``model.named_modules()``, through wrappers.

    Raises:
        ValueError: If there is none; the message names the option ``field``
            and what there is at the place where the name goes wrong.
    """
    module = model
    path: List[str] = []
    for part in name.split('.') if name else ():
        # FSDP and torch.compile answer for the module that they wrap.
        child = getattr(module, part, None)
        if not isinstance(child, nn.Module):
            place = '.'.join(path) or type(model).__name__
            names = [key for key, _ in module.named_children()]
            available = ', '.join('.'.join([*path, key]) for key in names)
            raise ValueError(
                f'{field}={name!r}: {place} has no module {part!r}; '
                f'it has {available or "none"}'
            )
        module = child
        path.append(part)
    return module


def update_digest(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Feed names and bytes of tensors, on any device, to one of hashlib's."""
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(_raw(value))


def _raw(value: Tensor) -> bytes:
    dense = value if value.layout == strided else value.to_dense()
    flat = dense.detach().cpu().resolve_conj().contiguous().flatten()
    return flat.view(uint8).numpy().tobytes()


def weights_digest(module: nn.Module) -> str:
    """Name a module's parameters and buffers by their names and values.

    Buffers that checkpoints leave out (a preprocessor's mean) count too.
    """
    digest = hashlib.blake2b(digest_size=16)
    values = dict(module.named_buffers(), **module.state_dict())
    kinds = {name: str(value.dtype) for name, value in values.items()}
    digest.update(repr(sorted(kinds.items())).encode())
    update_digest(digest, values)
    return digest.hexdigest()


#: Attributes of modules that say nothing of what they compute in evaluation.
_ASIDE = {*vars(nn.Module()), 'init_cfg', '_is_init', '_params_init_info'}
_ASIDE |= {'pretrained_cfg', 'default_cfg', '_compiled_call_impl'}
_ASIDE |= {'seeds'}  # of reversible blocks, drawn in their last pass
#: Objects of these say where and when something runs, and not what.
_ELSEWHERE = ('logging.', 'threading.', '_thread.', 'torch._C.', 'torch.device')
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_DATA = (*_PLAIN, list, tuple, dict, np.ndarray, Tensor, FunctionType)


def structure_digest(module: nn.Module) -> str:
    """Name what a module computes beside its weights.

    Classes, names and attributes (strides, heads, activation functions, which
    outputs are given) of the module and of all inside it, see
    :func:`description`. Of PyTorch's own modules only public attributes count,
    which mostly stay the same from release to release. They are those of a
    network that has just been put into evaluation: some (LeViT, TinyViT,
    EfficientFormer) keep what they work out for it, or in their first pass.
    """
    with just_evaluating(module):
        return _Describer().structure(module)


@contextmanager
def just_evaluating(module: nn.Module) -> Iterator[None]:
    """A block in which a module has been put into evaluation, and then back."""
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    module.eval()
    try:
        yield
    finally:
        module.train(modes[0][1])
        for part, mode in modes:
            part.training = mode


def description(
    value: Any, component: Callable[[Any], Any] = lambda kind: kind
) -> str:
    """A text that is the same for values that mean the same.

    It is the same in every process. Data count by what they hold, classes and
    functions by module and name, functions to which no name leads (lambdas) by
    code, constants and what they enclose, other objects by class and
    attributes. A list is like a tuple; the order of mappings and sets does not
    matter. ``component`` gives what the value of a mapping's ``type`` names.
    """
    return _Describer(component).text(value)


class _Describer:
    """Texts of values; an object in several places is looked at once."""

    def __init__(self, component: Callable[[Any], Any] = lambda k: k) -> None:
        self.component = component
        # With the objects themselves, lest another gets the same id.
        self._known: Dict[int, Tuple[Any, str]] = {}

    def text(self, value: Any) -> str:
        """See :func:`description`."""
        if isinstance(value, _PLAIN):
            return repr(value)
        if id(value) not in self._known:
            self._known[id(value)] = value, 'itself'  # inside it
            self._known[id(value)] = value, self._text(value)
        return self._known[id(value)][1]

    def structure(self, module: nn.Module) -> str:
        """See :func:`structure_digest`."""
        digest = hashlib.blake2b(digest_size=16)
        for name, part in module.named_modules():
            ours = not type(part).__module__.startswith('torch.')
            attributes = {
                key: value
                for key, value in vars(part).items()
                if key not in _ASIDE
                and (ours or key[0] != '_' or key == '_code')  # of torch.fx
            }
            says = f'{name}: {_name(type(part))} {self.text(attributes)}\n'
            digest.update(says.encode())
        return digest.hexdigest()

    def _text(self, value: Any) -> str:
        if isinstance(value, Mapping):
            items = [
                f'{self.text(k)}: '
                f'{self.text(self.component(v) if k == "type" else v)}'
                for k, v in value.items()
            ]
            return f'{{{", ".join(sorted(items))}}}'
        if isinstance(value, (list, tuple)):
            return f'[{", ".join(map(self.text, value))}]'
        if isinstance(value, (set, frozenset)):
            return f'{{{", ".join(sorted(map(self.text, value)))}}}'
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            return self._numbers(value)
        if isinstance(value, nn.Module):
            return f'{self.structure(value)} {weights_digest(value)}'
        return self._object(value)

    def _numbers(self, value: Any) -> str:
        if value.dtype == object:
            return self.text(value.tolist())
        kind = f'{value.dtype} {tuple(value.shape)}'
        if isinstance(value, Tensor):
            raw = b'' if value.is_meta else _raw(value)
        else:
            raw = value.tobytes()
        return f'{kind} {hashlib.blake2b(raw, digest_size=16).hexdigest()}'

    def _object(self, value: Any) -> str:
        if isinstance(value, functools.partial):
            parts = [value.func, value.args, value.keywords]
            return f'partial {self.text(parts)}'
        if isinstance(value, MethodType):
            return f'method {self.text([value.__func__, value.__self__])}'
        if isinstance(value, FunctionType) and not _is_found(value):
            return f'{_name(value)} {self._function(value)}'
        if isinstance(value, CodeType):
            return self.text([value.co_code, value.co_names, value.co_consts])
        if hasattr(value, '__qualname__'):  # a class, or a function
            return _name(value)
        kind = _name(type(value))
        if kind.startswith(_ELSEWHERE):
            return kind
        return f'{kind} {self.text(_state(value))}'

    def _function(self, function: FunctionType) -> str:
        """What decides what a function gives, where its name does not."""
        around = function.__globals__
        names = _names(function.__code__)
        used = {n: around[n] for n in names if n in around}
        filled = [c for c in function.__closure__ or () if c != CellType()]
        parts = [
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            [cell.cell_contents for cell in filled],
            {n: v for n, v in used.items() if isinstance(v, _DATA)},
        ]
        return self.text(parts)


def _name(value: Any) -> str:
    return f'{value.__module__}.{value.__qualname__}'


def _state(value: Any) -> Any:
    """What a copy of an object begins with: its attributes, no caches."""
    get_state = getattr(type(value), '__getstate__', None)
    with suppress(Exception):  # it may not be copied
        if get_state and get_state is not getattr(object, '__getstate__', None):
            return get_state(value)
    if hasattr(value, '__dict__'):
        return vars(value)
    return re.sub(' at 0x[0-9A-Fa-f]+', '', repr(value))


def _is_found(value: Any) -> bool:
    """Whether its name leads to it."""
    resolved = sys.modules.get(value.__module__)
    for part in value.__qualname__.split('.'):
        resolved = getattr(resolved, part, None)
    return resolved is value


def _names(code: CodeType) -> Set[str]:
    """Names that are not local to some code or to what is inside it."""
    inside = [c for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*map(_names, inside))
