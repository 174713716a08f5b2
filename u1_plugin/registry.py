"""The scope of configs that inherit from ``u1_plugin::``.

MMEngine marks what such a config takes over with ``_scope_='u1_plugin'``, and
looks here for the registries of that scope. They hold nothing of their own:
each is a child of MMPretrain's, in which everything of this package is as well,
once :mod:`u1_plugin.mm` is imported.
"""

from typing import Dict

from mmengine.registry import Registry
from mmpretrain import registry as parents


def children() -> Dict[str, Registry]:
    """An empty registry below each of MMPretrain's, by the same name."""
    return {
        name: Registry(
            parent.name,
            scope='u1_plugin',
            parent=parent,
            locations=['u1_plugin.mm'],
        )
        for name, parent in vars(parents).items()
        if isinstance(parent, Registry) and parent.scope == 'mmpretrain'
    }


globals().update(children())
