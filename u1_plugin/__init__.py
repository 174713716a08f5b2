"""U(1) symmetry breaking at CNN bottlenecks.

``geometry``, ``nn`` and ``memory`` need torch, numpy and safetensors, which pip
installs with them; ``measure`` and ``timm`` are imported when asked for. Where
MMPretrain, MMEngine and mmcv are installed, importing the package registers
its components there, as :mod:`u1_plugin.mm.registration` lists them; in a
config, ``model = dict(type='u1_plugin.U1ImageClassifier')`` or
``custom_imports = dict(imports=['u1_plugin'])`` does it.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from . import geometry, memory, nn
from .version import __version__

__all__ = ['__version__', 'geometry', 'memory', 'nn']

_WITH_MMPRETRAIN = (
    'U1ClassifierMixin',
    'U1HuggingFaceClassifier',
    'U1ImageClassifier',
    'U1TimmClassifier',
    'mm',
)
_WHEN_ASKED = ('measure', 'timm')

_missing = [
    name for name in ('mmengine', 'mmcv', 'mmpretrain') if not find_spec(name)
]
if not _missing:
    from . import mm

    __all__ += _WITH_MMPRETRAIN


def __getattr__(name: str) -> Any:
    if name in _WHEN_ASKED:
        return import_module(f'{__name__}.{name}')
    if name in _WITH_MMPRETRAIN and not _missing:
        return getattr(mm, name)
    # An ImportError, because `from u1_plugin import ...` would put a message
    # of its own in the place of an AttributeError's.
    if name in _WITH_MMPRETRAIN and _missing:
        raise ImportError(
            f'u1_plugin.{name} needs MMPretrain, MMEngine and mmcv, and '
            f'{", ".join(_missing)} cannot be found. Install one of the two '
            "families: pip install 'u1_plugin[openmmlab,mmcv-lite]' or "
            "pip install 'u1_plugin[onedl]'"
        )
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
