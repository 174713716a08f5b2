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
