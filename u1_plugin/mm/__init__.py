"""What MMPretrain and MMEngine need of the plugin.

What is registered, and where, is one list: :mod:`u1_plugin.mm.registration`.
"""

from importlib import import_module
from typing import Any

from . import compat

compat.setup()

_CLASSIFIERS = (
    'U1ClassifierMixin',
    'U1HuggingFaceClassifier',
    'U1ImageClassifier',
    'U1TimmClassifier',
)
__all__ = list(_CLASSIFIERS)


def __getattr__(name: str) -> Any:
    # When asked for: they import all of MMPretrain's models.
    if name in _CLASSIFIERS:
        return getattr(import_module(f'{__name__}.classifiers'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
