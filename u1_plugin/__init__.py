"""U(1) symmetry breaking at CNN bottlenecks.

``geometry``, ``nn``, ``memory`` and ``timm`` need torch alone (and timm).
Where MMPretrain, MMEngine and mmcv are installed, importing the package
registers its components there, as :mod:`u1_plugin.mm.registration` lists them;
in a config, ``model = dict(type='u1_plugin.U1ImageClassifier')`` or
``custom_imports = dict(imports=['u1_plugin'])`` does it.
"""

from importlib.util import find_spec

from . import geometry, memory, nn
from .version import __version__

__all__ = ['__version__', 'geometry', 'memory', 'nn']

if all(map(find_spec, ('mmengine', 'mmcv', 'mmpretrain'))):
    from . import mm
    from .mm import (
        U1ClassifierMixin,
        U1HuggingFaceClassifier,
        U1ImageClassifier,
        U1TimmClassifier,
    )

    __all__ += [
        'U1ClassifierMixin',
        'U1HuggingFaceClassifier',
        'U1ImageClassifier',
        'U1TimmClassifier',
        'mm',
    ]
