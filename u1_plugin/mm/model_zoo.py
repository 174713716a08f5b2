"""Makes the plugin's configs known to ``mmpretrain.list_models``."""

from pathlib import Path
from typing import Optional

from mmpretrain.apis import ModelHub

_PACKAGE = Path(__file__).resolve().parent.parent


def root() -> Optional[Path]:
    """The folder of ``configs``, ``tools`` and ``model-index.yml``, if any.

    A checkout has them beside the package, a wheel in ``.mim`` in the package.
    """
    # The checkout first: an editable installation's `.mim` may be a copy.
    if (_PACKAGE.parent / 'pyproject.toml').is_file():
        return _PACKAGE.parent
    folder = _PACKAGE / '.mim'
    return folder if folder.is_dir() else None


def register() -> None:
    """Add the plugin's model index to MMPretrain's hub, once.

    ``mmpretrain.list_models('*_u1')`` and ``mmpretrain.get_model(name)`` find
    the configs from then on. A bare copy of the package has none.
    """
    folder = root()
    if folder is not None:
        ModelHub.register_model_index(
            folder / 'model-index.yml', config_prefix=folder
        )
