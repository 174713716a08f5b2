"""What several rooms ask of a network."""

import hashlib
from typing import Any, Mapping

from torch import Tensor, nn, uint8

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
    return unwrapped(model._modules[names[-1]])


def find_module(model: nn.Module, name: str, field: str) -> nn.Module:
    """The module of that dotted name, through wrappers.

    Args:
        model (nn.Module): Where to look.
        name (str): As in ``model.named_modules()``.
        field (str): The option that named it, for the message.

    Raises:
        ValueError: If there is none; the message lists what there is at the
            place where the name goes wrong.
    """
    module, path = model, []
    for part in name.split('.') if name else ():
        # FSDP and torch.compile answer for the module that they wrap.
        child = getattr(module, part, None)
        if not isinstance(child, nn.Module):
            place = '.'.join(path) or type(model).__name__
            names = [key for key, _ in module.named_children()]
            known = ', '.join('.'.join([*path, key]) for key in names)
            raise ValueError(
                f'{field}={name!r}: {place} has no module {part!r}; '
                f'it has {known or "none"}'
            )
        module = child
        path.append(part)
    return module


def update_digest(digest: Any, module: nn.Module) -> None:
    """Feed names and bytes of a module's parameters and buffers to a hash.

    Args:
        digest: Of :mod:`hashlib`.
        module (nn.Module): On any device.
    """
    _update(digest, module.state_dict())


def _update(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        raw = value.detach().cpu().contiguous().flatten().view(uint8)
        digest.update(raw.numpy().tobytes())


def weights_digest(module: nn.Module) -> str:
    """Name a module's parameters and buffers by their names and values.

    Buffers that checkpoints leave out (a preprocessor's mean) count too.

    Args:
        module (nn.Module): On any device.
    """
    digest = hashlib.blake2b(digest_size=16)
    values = dict(module.named_buffers(), **module.state_dict())
    kinds = {name: str(value.dtype) for name, value in values.items()}
    digest.update(repr(sorted(kinds.items())).encode())
    _update(digest, values)
    return digest.hexdigest()


#: Attributes of modules that say nothing of what they compute in evaluation.
_ASIDE = {*vars(nn.Module()), 'init_cfg', '_is_init', '_params_init_info'}
_ASIDE |= {'pretrained_cfg', 'default_cfg', '_compiled_call_impl'}


def structure_digest(module: nn.Module) -> str:
    """Name what a module computes beside its weights.

    Classes, names and attributes (strides, dilations, which outputs are
    given) of the module and of all inside it. PyTorch's own modules count by
    their ``extra_repr``, which stays the same from release to release.

    Args:
        module (nn.Module): Built from a config or by hand.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, part in module.named_modules():
        kind = type(part)
        if kind.__module__.startswith('torch.'):
            says = part.extra_repr()
        else:
            own = {k: v for k, v in vars(part).items() if k not in _ASIDE}
            says = _text(own)
        digest.update(f'{name}: {kind.__name__} {says}\n'.encode())
    return digest.hexdigest()


def _text(value: Any) -> str:
    """The same in every process: of other objects than data, their type."""
    if isinstance(value, Mapping):
        items = sorted((_text(k), _text(v)) for k, v in value.items())
        return repr(items)
    if isinstance(value, (list, tuple)):
        return repr([_text(item) for item in value])
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return getattr(value, '__qualname__', type(value).__qualname__)
