"""Tools in this process, and small pictures and a network for them."""

import runpy
import sys

import numpy as np
import pytest
from analysed_digits import CLASSES, COUNT
from PIL import Image
from sklearn.datasets import load_digits

from u1_plugin.lab.analysis.sources import load_network


@pytest.fixture
def run_tool(root, tmp_path, monkeypatch):
    """Runs a tool in this process: torch is slow to import."""

    def run(tool: str, *args: str) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', [tool, *args])
        runpy.run_path(str(root / tool), run_name='__main__')

    return run


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Forty digits of four classes."""
    out = tmp_path_factory.mktemp('digits')
    digits = load_digits(n_class=len(CLASSES))
    for i in range(COUNT):
        place = out / str(digits.target[i])
        place.mkdir(exist_ok=True)
        grey = np.round(digits.images[i] * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(place / f'{i}.png')
    return out


@pytest.fixture(scope='module')
def config_file(root, tmp_path_factory):
    """The digits config of the repository, with fewer classes."""
    file = tmp_path_factory.mktemp('config') / 'small.py'
    base = root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    file.write_text(f"_base_ = ['{base}']\n")
    return file


@pytest.fixture(scope='module')
def network(config_file):
    return load_network(str(config_file), seed=0)
