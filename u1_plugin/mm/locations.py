"""Registers the plugin's components when MMPretrain registers its own.

The classifiers are subclasses of MMPretrain's, and importing those takes most
of a second. MMEngine's registries import the modules of their ``locations`` at
the first look-up; the plugin's list is one more of them.
"""

from importlib import import_module
from typing import List

import mmengine.registry as engine
import mmpretrain.registry as pretrain
from mmengine.registry import Registry

LIST = 'u1_plugin.mm.registration'


def _registries() -> List[Registry]:
    """Those that may be asked for a component, with a scope or without."""
    names = ('MODELS', 'HOOKS', 'METRICS', 'DATA_SAMPLERS', 'OPTIM_WRAPPERS')
    return [
        getattr(package, name)
        for package in (engine, pretrain)
        for name in names
    ]


def announce() -> None:
    """Have the components registered at the first look-up, or now.

    Now, where a registry has imported its locations already.
    """
    registries = _registries()
    if any(registry._imported for registry in registries):
        import_module(LIST)
        return
    for registry in registries:
        # A new list: the default one is shared by all registries.
        registry._locations = [*registry._locations, LIST]
