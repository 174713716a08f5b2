"""What several modules ask of a network."""

from mmengine.model import is_model_wrapper
from torch import nn, uint8


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where a runner has wrapped it to distribute it."""
    return model.module if is_model_wrapper(model) else model


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
