"""What the tests of the model converters share.

Keras' convolutions are written from their definition, in Keras' own layout, so
that they know nothing of how the converters turn arrays.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image
from torch import Tensor

import u1_plugin.lab  # noqa: F401  (registers SqueezeNet)


def load_tool(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        name, root / f'tools/model_converters/{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(monkeypatch, tool: ModuleType, *arguments) -> dict:
    """The state dict that the tool writes to its last argument."""
    monkeypatch.setattr(sys, 'argv', ['tool', *map(str, arguments)])
    tool.main()
    return torch.load(arguments[-1], weights_only=True)['state_dict']


def load(config: dict, state: dict) -> torch.nn.Module:
    """An ``ImageClassifier`` with exactly those weights, in eval mode."""
    model = MODELS.build(dict(type='ImageClassifier', **config)).eval()
    model.load_state_dict(state, strict=True)
    return model


def photograph(name: str, size: int) -> Tensor:
    """Grey values 0 to 255, ``(1, 3, size, size)``, RGB."""
    data = pytest.importorskip('skimage.data')
    picture = Image.fromarray(getattr(data, name)())
    pixels = np.float32(picture.resize((size, size), Image.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def preprocessed(config: Config, name: str, size: int) -> Tensor:
    """A photograph as a config's loader and data preprocessor make it."""
    preprocess = MODELS.build(
        dict(config.data_preprocessor, type='ClsDataPreprocessor')
    )
    bgr = photograph(name, size).flip(1)
    return preprocess(dict(inputs=list(bgr)))['inputs']


def _windows(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """``(B, C, h, w, H, W)``: what each place of the kernel sees."""
    height, width = kernel.shape[:2]
    return x.unfold(2, height, stride).unfold(3, width, stride)


def conv(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Without padding.

    Args:
        x (Tensor): ``(B, I, h, w)``.
        kernel (Tensor): ``(H, W, I, O)``.
        stride (int): >= 1.
    """
    windows = _windows(x, kernel, stride)
    return torch.einsum('bixyhw,hwio->boxy', windows, kernel)


def depthwise(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """One kernel a channel, ``(H, W, C, 1)``, without padding."""
    windows = _windows(x, kernel, stride)
    return torch.einsum('bcxyhw,hwcm->bcxy', windows, kernel)
