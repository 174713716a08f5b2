"""Export, compilation and inference give what the stock model gives."""

import copy
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from helpers import build, images, samples, u1_config
from mmengine.config import Config
from mmengine.runner.checkpoint import save_checkpoint
from mmpretrain import ImageClassificationInferencer
from mmpretrain.registry import MODELS
from PIL import Image
from sklearn.datasets import load_sample_image
from torch._dynamo.testing import CompileCounterWithBackend

import u1_plugin  # noqa: F401  (registers the components)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = [
    'resnet/resnet18_8xb32_in1k_u1.py',
    'convnext/convnext-tiny_32xb128_in1k_u1.py',
    'swin_transformer/swin-tiny_16xb64_in1k_u1.py',
    'vision_transformer/deit-small_4xb256_in1k_u1.py',
]
#: Shallow members: what is exported is a matter of kinds, not of depth.
SHALLOW = {
    'convnext': dict(depths=[1, 1, 1, 1], channels=[16, 32, 64, 128]),
    'swin_transformer': dict(
        embed_dims=24, depths=[1, 1, 2, 1], num_heads=[3, 6, 12, 24]
    ),
}


def models(name: str) -> tuple:
    """The stock model and its U(1) twin, with the same weights."""
    config = Config.fromfile(CONFIGS / name).model
    arch = SHALLOW.get(name.split('/')[0])
    if arch:
        width = arch.get('channels', [192])[-1]
        config.backbone.arch = arch
        config.head.in_channels = width
    stock = copy.deepcopy(config)
    stock.type = 'ImageClassifier'
    torch.manual_seed(0)
    stock, u1 = MODELS.build(stock), MODELS.build(config)
    u1.load_state_dict(stock.state_dict(), strict=True)
    stock.eval(), u1.eval()
    return stock, u1


@pytest.fixture(scope='module')
def photograph() -> torch.Tensor:
    image = Image.fromarray(load_sample_image('flower.jpg'))
    pixels = np.array(image.resize((224, 224)), dtype=np.float32)
    return (torch.from_numpy(pixels).permute(2, 0, 1)[None] - 120) / 60


@pytest.mark.parametrize('name', NAMES)
def test_onnx(name, photograph, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    stock, u1 = models(name)
    file = str(tmp_path / 'model.onnx')
    torch.onnx.export(u1, (photograph,), file, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file)
    (feed,) = session.get_inputs()
    (scores,) = session.run(None, {feed.name: photograph.numpy()})
    expected = stock(photograph).detach().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', NAMES)
def test_compiled(name, photograph):
    stock, u1 = models(name)
    with torch.no_grad():
        compiled = torch.compile(u1, backend='aot_eager')(photograph)
        torch.testing.assert_close(compiled, stock(photograph))


def test_a_compiled_training_step():
    """Losses and gradients are the eager model's, and one graph serves."""
    torch.compiler.reset()
    eager = build(u1_config(neck=dict(plane='joint')))
    compiled = copy.deepcopy(eager)
    counter = CompileCounterWithBackend('aot_eager')
    step = torch.compile(compiled, backend=counter)
    graphs = []
    for _ in range(3):
        losses = eager(images(), samples(), mode='loss')
        others = step(images(), samples(), mode='loss')
        graphs.append(counter.frame_count)
        for name, value in losses.items():
            torch.testing.assert_close(others[name], value)
        one, other = (
            torch.autograd.grad(found['loss_u1'], model.backbone.parameters())
            for found, model in ((losses, eager), (others, compiled))
        )
        for value, expected in zip(other, one):
            torch.testing.assert_close(value, expected)
    assert len(set(graphs)) == 1  # no later step compiled anything
    torch.compiler.reset()


def test_the_inferencer_classifies_a_photograph(tmp_path):
    """A config by its name and a checkpoint of the stock model."""
    file = tmp_path / 'flower.jpg'
    Image.fromarray(load_sample_image('flower.jpg')).save(file)
    stock = mmpretrain.get_model('resnet18_8xb32_in1k')
    checkpoint = str(tmp_path / 'stock.pth')
    save_checkpoint(dict(state_dict=stock.state_dict()), checkpoint)
    results = []
    for name in ('resnet18_8xb32_in1k', 'resnet18_8xb32_in1k_u1'):
        inferencer = ImageClassificationInferencer(name, pretrained=checkpoint)
        results.extend(inferencer(str(file)))
    plain, u1 = results
    assert len(u1['pred_scores']) == 1000
    assert u1['pred_scores'].sum() == pytest.approx(1, abs=1e-4)
    assert np.array_equal(u1['pred_scores'], plain['pred_scores'])
    assert u1['pred_class'] == plain['pred_class']
