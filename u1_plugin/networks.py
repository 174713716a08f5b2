"""What several rooms ask of a network."""

from torch import nn, uint8

#: Names under which wrappers (DDP, FSDP, averaged models) keep their model.
_INSIDE = ({'module'}, {'_fsdp_wrapped_module'}, {'_orig_mod'})


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where it has been wrapped to distribute or compile it.

    A wrapper is a module whose only child has one of the names that PyTorch's
    and MMEngine's wrappers use.
    """
    while set(model._modules) in _INSIDE:
        model = next(iter(model._modules.values()))
    return model


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


def update_digest(digest, module: nn.Module) -> None:
    """Feed names and bytes of a module's parameters and buffers to a hash.

    Args:
        digest: Of :mod:`hashlib`.
        module (nn.Module): On any device.
    """
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        raw = value.detach().cpu().contiguous().flatten().view(uint8)
        digest.update(raw.numpy().tobytes())
