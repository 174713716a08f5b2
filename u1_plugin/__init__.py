"""U(1) symmetry breaking at CNN bottlenecks, a plugin for MMPretrain.

Importing the package registers its components in MMPretrain's registries;
in a config, ``custom_imports = dict(imports=['u1_plugin'])`` does it.
"""

from importlib.util import find_spec

from .version import __version__


def _require_mmpretrain() -> None:
    missing = [
        name
        for name in ('mmengine', 'mmcv', 'mmpretrain')
        if find_spec(name) is None
    ]
    if missing:
        # Not a dependency: OpenMMLab's packages and OneDL's forks own the
        # same folders, and either would overwrite the other.
        raise ImportError(
            f'u1_plugin needs {", ".join(missing)}. Install one of the two '
            'families:\n'
            "  pip install 'u1_plugin[openmmlab,mmcv-lite]'  # OpenMMLab\n"
            "  pip install 'u1_plugin[onedl]'                # OneDL's forks"
        )


_require_mmpretrain()

from . import compat  # noqa: E402

compat.setup()

from . import (  # noqa: E402
    datasets,  # noqa: F401
    evaluation,  # noqa: F401
    hooks,  # noqa: F401
    model_zoo,
    models,  # noqa: F401
    optim,  # noqa: F401
)

model_zoo.register()

__all__ = ['__version__']
