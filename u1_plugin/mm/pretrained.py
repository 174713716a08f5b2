"""Weights that timm has loaded, which a training would draw anew.

MMEngine initialises a model as its training begins, and calls what networks
inside it call ``init_weights``. Many of timm's have such a method, which draws
their weights (of a ViT all, of a ResNet the convolutions): ``pretrained=True``
is then without effect, and nothing says so. MMPretrain's ``TIMMBackbone``
guards its network, its ``TimmClassifier`` does not (MMPretrain 1.2, timm 1.0).
Networks of transformers know what they have loaded.
"""

import logging
from typing import Any, Mapping

from torch import nn

_logger = logging.getLogger('u1_plugin')
_SOURCES = ('pretrained', 'checkpoint_path')


def keep_pretrained(classifier: nn.Module, options: Mapping[str, Any]) -> bool:
    """Have MMEngine leave a network's weights alone, if it has loaded them.

    Args:
        classifier (nn.Module): A ``TimmClassifier``, or another; changed in
            place.
        options (Mapping[str, Any]): What it was built with.

    Returns:
        bool: Whether its weights were about to be lost.
    """
    network = getattr(classifier, 'model', None)
    loaded = any(options.get(name) for name in _SOURCES)
    if not loaded or not hasattr(network, 'init_weights'):
        return False
    network.is_init = True  # MMEngine's word for it
    return True


def say_kept() -> None:
    """Warn that the stock classifier begins elsewhere."""
    _logger.warning(
        'model.pretrained: the loaded weights are kept. Those of the stock '
        'TimmClassifier are drawn anew, and it is no baseline; take this type '
        'with model.u1.loss.loss_weight=0'
    )
