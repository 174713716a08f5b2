"""What MMEngine and MMPretrain are told when the package is imported.

How to read MMEngine's own checkpoints on today's torch, where our configs are,
and which module registers our components.
"""

import functools
import inspect
import struct
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Callable, Iterator

import mmengine.registry as engine
import mmpretrain.registry as pretrain
import torch
from mmengine.config import utils as config_utils
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as checkpoint_module
from mmengine.utils import digit_version
from mmpretrain.apis import ModelHub

from .unpickling import ADMITTED, real

LIST = 'u1_plugin.mm.registration'
#: Registries that may be asked for a component, with a scope or without.
_REGISTRIES = ('MODELS', 'HOOKS', 'METRICS', 'DATA_SAMPLERS', 'OPTIM_WRAPPERS')
_PACKAGE = Path(__file__).resolve().parent.parent

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
    entries = [entry for entry in before if _name(entry) not in names]
    entries += ADMITTED
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(entries)
    try:
        yield
    finally:
        # What torch's own modules added meanwhile, as they were imported.
        added = set(torch.serialization.get_safe_globals()) - set(entries)
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


def _admit_history() -> None:
    """Let MMEngine resume from its checkpoints.

    The loaders stand in MMEngine's own registry of them, in the place of the
    two that read a file of the user's; ``torch.load`` and its allow-list stay
    as they are. A loader that somebody else has put there stays.
    """
    for prefix, loader in (
        ('', checkpoint_module.load_from_local),
        (r'(\S+\:)?s3://', checkpoint_module.load_from_ceph),
        (r'(\S+\:)?petrel://', checkpoint_module.load_from_ceph),
    ):
        if CheckpointLoader._schemes.get(prefix) is loader:
            CheckpointLoader.register_scheme(
                prefix, _reading(loader), force=True
            )


def _announce_configs() -> None:
    """Have ``u1_plugin::`` configs and those of our model index found.

    ``mmpretrain.list_models('*_u1')`` and ``mmpretrain.get_model(name)`` need
    the index, of which a bare copy of the package has none.
    """
    # MMEngine resolves `package::config` for the packages of this table only,
    # so ours has to enter itself. The value is the name of a distribution, or
    # of a module: for the latter it looks for `.mim` beside that module, which
    # is right for editable installations too, whose metadata lie elsewhere.
    config_utils.MODULE2PACKAGE.setdefault('u1_plugin', 'u1_plugin.version')
    # A checkout has `configs` and `model-index.yml` beside the package, and a
    # wheel in `.mim`, which in an editable installation may be a copy.
    checkout = _PACKAGE.parent
    if not (checkout / 'pyproject.toml').is_file():
        checkout = _PACKAGE / '.mim'
    if checkout.is_dir():
        ModelHub.register_model_index(
            checkout / 'model-index.yml', config_prefix=checkout
        )


def _announce_components() -> None:
    """Have our components registered when MMPretrain registers its own.

    The classifiers are subclasses of MMPretrain's, and importing those takes
    most of a second. MMEngine's registries import the modules of their
    ``locations`` at the first look-up, and ours is one more; where a registry
    has imported its own already, ours is imported now.
    """
    registries = [
        getattr(package, name)
        for package in (engine, pretrain)
        for name in _REGISTRIES
    ]
    if any(registry._imported for registry in registries):
        import_module(LIST)
        return
    for registry in registries:
        # A new list: the default one is shared by all registries.
        registry._locations = [*registry._locations, LIST]


def setup() -> None:
    """Prepare MMEngine and MMPretrain; called once, on import."""
    if not reads_history():
        _admit_history()
    _announce_configs()
    _announce_components()
