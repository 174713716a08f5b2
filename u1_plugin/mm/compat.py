"""What stock MMEngine 0.10 needs on today's torch, for its own files alone."""

import functools
import inspect
import struct
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any, Callable, Iterator

import torch
from mmengine.config import utils as config_utils
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as checkpoint_module
from mmengine.utils import digit_version

from .stand_ins import ADMITTED, real

#: What reading a file raises that was made up or damaged.
_CRAFTED = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def _name(entry: Any) -> str:
    if isinstance(entry, tuple):
        return entry[1]
    return f'{entry.__module__}.{entry.__qualname__}'


@contextmanager
def _admitting() -> Iterator[None]:
    """Torch's allow-list with ours in it, and as it was afterwards.

    Where a user's own entry has the name of one of ours, ours counts here.
    """
    before = torch.serialization.get_safe_globals()
    names = {name for _, name in ADMITTED}
    theirs = [entry for entry in before if _name(entry) not in names]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*theirs, *ADMITTED])
    try:
        yield
    finally:
        # What torch's own modules added meanwhile, as they were imported.
        added = set(torch.serialization.get_safe_globals()) - {
            *theirs,
            *ADMITTED,
        }
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([*before, *added])


def _reading(loader: Callable) -> Callable:
    """A loader of MMEngine's that reads its own checkpoints."""

    @functools.wraps(loader)  # the log tells loaders by their names
    def load(filename: str, *args, **kwargs) -> Any:
        try:
            with _admitting():
                checkpoint = loader(filename, *args, **kwargs)
            return real(checkpoint)
        except _CRAFTED as error:
            raise UnpicklingError(
                f'{filename!r} is no checkpoint of MMEngine: '
                f'{type(error).__name__}: {error}'
            ) from error

    return load


def reads_history() -> bool:
    """Whether this MMEngine reads its own checkpoints on this torch.

    ``torch.load`` means ``weights_only=True`` since torch 2.6, and MMEngine
    saves its log history and schedulers beside the weights. A version or fork
    of MMEngine that says ``weights_only`` has seen to it.
    """
    return digit_version(torch.__version__) < digit_version('2.6') or (
        'weights_only' in inspect.getsource(checkpoint_module)
    )


def setup() -> None:
    """Let MMEngine resume from its checkpoints and find our configs.

    The loaders stand in MMEngine's own registry of them, in the place of the
    two that read a file of the user's; ``torch.load`` and its allow-list stay
    as they are. A loader that somebody else has put there stays.
    """
    if not reads_history():
        for prefixes, loader in (
            ([''], checkpoint_module.load_from_local),
            (
                [r'(\S+\:)?s3://', r'(\S+\:)?petrel://'],
                checkpoint_module.load_from_ceph,
            ),
        ):
            for prefix in prefixes:
                if CheckpointLoader._schemes.get(prefix) is loader:
                    CheckpointLoader.register_scheme(
                        prefix, _reading(loader), force=True
                    )
    # MMEngine resolves `package::config` for the packages of this table only,
    # so ours has to enter itself. The value is the name of a distribution, or
    # of a module: for the latter it looks for `.mim` beside that module, which
    # is right for editable installations too, whose metadata lie elsewhere.
    config_utils.MODULE2PACKAGE.setdefault('u1_plugin', 'u1_plugin.version')
