"""Paint the hue of every bottleneck pixel over a photograph.

Hue is the feature angle of a pixel, saturation its off-axis angle, value its
energy: a colour picture of what a layer makes of an image. Beside it stands
CAM (Zhou et al. 2016) of the predicted class, if the head is linear on the
mean of the last map.

    python tools/visualize_image.py CONFIG CHECKPOINT cat.jpg --out cat-hue.png
    python tools/visualize_image.py timm:resnet50 - cat.jpg --out cat-hue.png
"""

import argparse
import logging
from pathlib import Path
from typing import Dict, Optional

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from torch import Tensor, nn

from u1_plugin.files import new_file, new_path
from u1_plugin.geometry import ORTHANT_MAPS
from u1_plugin.lab.analysis.bottlenecks import find_bottlenecks, run
from u1_plugin.lab.analysis.drawing import short
from u1_plugin.lab.analysis.images import prepare_image
from u1_plugin.lab.analysis.preparation import (
    first_inputs,
    holds_rgb,
    input_channels,
)
from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.lab.analysis.survey import OPTIONS
from u1_plugin.lab.command import at_least, told
from u1_plugin.lab.markup import file_name
from u1_plugin.measure.hue import PALETTES, hue_figure, hue_map, photograph
from u1_plugin.measure.probe_options import written_as
from u1_plugin.nn import MapCollector
from u1_plugin.nn.feature_plane import FeaturePlane

#: What is advised where a network comes without weights, and is no option here.
_NOT_HERE = {', or --untrained to analyse initial weights': ''}


def parse_args() -> argparse.Namespace:
    """Read the command line; check that what is to be read exists."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add('source', metavar='CONFIG|timm:NAME')
    add('checkpoint', help="'-': timm's own pre-trained weights")
    add('image', type=Path)
    add('--out', type=new_path, required=True, help='a new .png file')
    add('--layers', nargs='+', help='names of modules; default: bottlenecks')
    add('--token-grid', help="for tokens, such as 'backbone.patch_embed'")
    add(
        '--planes',
        type=Path,
        help='the folder `planes` of an analysis: centred PCA planes in '
        'place of\nthe raw Fourier plane, where a shared angle rules',
    )
    add('--orthant', default='relu', choices=ORTHANT_MAPS)
    add('--palette', default='hsv', choices=PALETTES)
    add('--size', type=at_least(1), help='resize the image to this many pixels')
    add('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if args.out.suffix != '.png':
        parser.error(f'--out {args.out} must end in .png')
    if not args.image.is_file():
        parser.error(f'{args.image} is no file; name an image')
    if args.planes and not args.planes.is_dir():
        parser.error(f'--planes {args.planes} is no folder')
    return args


def class_activation_map(
    activation: Tensor, fc: nn.Linear, logits: Tensor
) -> Optional[np.ndarray]:
    """CAM of the predicted class: the map weighted by that class' fc row.

    Args:
        activation (Tensor): ``A``, ``(C, H, W)``.
        fc (nn.Linear): The classifier.
        logits (Tensor): What the network gave for this image, ``(K,)``.

    Returns:
        np.ndarray: ``(H, W)``; its mean and the bias are the class' logit.
        None if the logits are not those of ``fc`` on the map's mean, for
        which CAM is not defined.
    """
    activation = activation.float()
    if fc.in_features != len(activation) or fc.out_features != len(logits):
        return None
    expected = fc(activation.mean((1, 2)))
    scale = logits.abs().max().clamp_min(1e-6)
    if (expected - logits).abs().max() > 1e-3 * scale:
        return None
    weights = fc.weight[logits.argmax()].float()
    return torch.einsum('c,chw->hw', weights, activation).cpu().numpy()


def feature_plane(
    layer: str, channels: int, folder: Optional[Path]
) -> nn.Module:
    """The plane in which a layer's hue is read."""
    if folder is None:
        return FeaturePlane(channels)
    file = folder / f'{file_name(layer)}.npz'
    if not file.is_file():
        raise ValueError(
            f'--planes {folder} has no {file.name}; give those of an analysis '
            f'of {layer}, or choose --layers'
        )
    options = dict(basis='pca', center='file', file=str(file))
    with written_as({'feature_plane.file': '--planes: file'}):
        return FeaturePlane(channels, **options).eval()


def classifier_of(model: nn.Module) -> Optional[nn.Linear]:
    """The linear layer that gives the logits, if there is one."""
    if hasattr(model, 'head'):
        classifier = getattr(model.head, 'fc', None)
    else:
        get = getattr(model.model, 'get_classifier', lambda: None)  # timm's
        classifier = get()
    return classifier if isinstance(classifier, nn.Linear) else None


@torch.no_grad()
def draw(args: argparse.Namespace) -> None:
    """Write the picture that the command line asks for.

    Raises:
        OSError, ValueError: If a file or an option does not fit.
    """
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    checkpoint = None if args.checkpoint == '-' else args.checkpoint
    with written_as(_NOT_HERE):
        network = load_network(
            args.source, checkpoint, options=args.cfg_options, size=args.size
        )
    model = network.model
    batch = prepare_image(
        network.config, args.image, args.size, input_channels(model)
    )
    inputs = first_inputs(model, batch)
    layers = args.layers or find_bottlenecks(model, inputs, args.token_grid)
    fc = classifier_of(model)
    with (
        written_as(OPTIONS),
        MapCollector(model, layers, args.token_grid) as collector,
    ):
        logits = run(model, inputs) if fc is None else model(inputs)
        maps = {
            name: activation[0] for name, activation in collector.maps().items()
        }
    hues: Dict = {
        short(name): hue_map(
            activation,
            feature_plane(name, len(activation), args.planes),
            args.orthant,
        )
        for name, activation in maps.items()
    }
    cam, title = None, ''
    if fc is not None:
        cam = class_activation_map(maps[layers[-1]], fc, logits[0])
        share = logits[0].softmax(0).max()
        title = f'CAM of class {int(logits[0].argmax())} (p = {share:.2f})'
    if cam is None:
        print(f'No CAM: the head is not linear on the mean of {layers[-1]}')
    plane = 'centred PCA plane' if args.planes else 'Fourier plane'
    figure = hue_figure(
        photograph(batch['inputs'][0], holds_rgb(network.config)),
        hues,
        cam,
        title,
        args.palette,
        f'{network.name}, {network.weights}: hue in the {plane}',
    )
    with new_file(args.out, '--out') as part:
        figure.savefig(part, dpi=90)
    print(args.out)


def main() -> None:
    args = parse_args()
    with told():
        draw(args)


if __name__ == '__main__':
    main()
