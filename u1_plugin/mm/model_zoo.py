"""Makes the plugin's configs known to ``mmpretrain.list_models``."""

from pathlib import Path

from mmpretrain.apis import ModelHub

_ROOT = Path(__file__).parent / '.mim'


def register() -> None:
    """Add the plugin's model index to MMPretrain's hub, once.

    ``mmpretrain.list_models('*_u1')`` and ``mmpretrain.get_model(name)`` find
    the configs from then on.
    """
    index = _ROOT / 'model-index.yml'
    # Without symbolic links (some archives of the sources) there is no index.
    if index.is_file():
        ModelHub.register_model_index(index, config_prefix=_ROOT)
