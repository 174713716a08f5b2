"""The page on life without MM packages, run without MM packages."""

import re
import sys
from importlib.util import find_spec

import pytest
import torch
from commands import printed
from torch import nn

from u1_plugin.nn import U1Branch

#: Before each block of the page: no MM package, and data of its size.
PREPARATION = """
import sys
for package in ('mmengine', 'mmcv', 'mmpretrain'):
    sys.modules[package] = None
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
inputs, classes = torch.randn(8, 3, 64, 64), torch.arange(8)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(inputs, classes), batch_size=4
)
"""
#: After it.
CHECKS = """
assert all(value.isfinite().all() for value in model.parameters())
"""


def blocks(root) -> dict:
    """Code by section of the page, in order."""
    text = (root / 'docs/without_mmpretrain.md').read_text()
    found = {}
    for section in re.split(r'^## ', text, flags=re.MULTILINE)[1:]:
        code = re.findall(r'^```python\n(.*?)^```', section, re.M | re.S)
        found[section.splitlines()[0]] = '\n'.join(code)
    return found


def run(code: str, folder, environment) -> str:
    command = [sys.executable, '-W', 'ignore', '-c']
    return printed(
        [*command, PREPARATION + code + CHECKS], cwd=folder, env=environment
    )


def test_the_page_has_the_sections_that_are_run(root):
    names = ['A loop of your own', 'timm', 'Lightning', 'Hugging Face']
    assert list(blocks(root)) == names
    assert all(blocks(root).values())


@pytest.mark.parametrize(
    'section, check',
    [
        (
            'A loop of your own',
            'assert model.layer4[0].conv1.weight.grad.abs().sum() > 0\n'
            "assert losses['loss_u1'].item() > 0\n"
            "assert losses['loss_u1'] != smoothed['loss_u1']\n",
        ),
        (
            'timm',
            "assert checkpoint['task_state']['u1.class_angles.angles'].any()\n"
            "assert result['loss'] > result['loss_one_hot']\n",
        ),
        ('Lightning', ''),
        ('Hugging Face', 'assert trainer.state.global_step == 2\n'),
    ],
)
def test_its_code_runs(section, check, root, environment, tmp_path):
    code = blocks(root)
    if section == 'timm':
        pytest.importorskip('u1_plugin.timm', exc_type=ImportError)
    needed = re.findall(r'^# needs (.*)$', code[section], re.MULTILINE)
    for package in ', '.join(needed).split(', ') if needed else []:
        if find_spec(package) is None:
            pytest.skip(f'{package} is not installed')
    alone = section in ('A loop of your own', 'timm')
    first = '' if alone else code['A loop of your own']
    run(first + '\n' + code[section] + '\n' + check, tmp_path, environment)


def test_the_loop_takes_ten_lines(root):
    """From the branch to the step, imports and network apart."""
    code = blocks(root)['A loop of your own']
    start = code.index('branch = U1Branch')
    loop = code[start : code.index('optimizer.step()')]
    assert len(loop.splitlines()) <= 10


class Embedder(nn.Module):
    """Returns a map and what it pooled, as networks of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> dict:
        found = self.conv(images).relu()
        return dict(last_hidden_state=found, pooler_output=self.pool(found))


@pytest.mark.parametrize('layers', ['auto', ['0']])
def test_a_map_is_told_from_what_was_pooled_of_it(layers):
    torch.manual_seed(0)
    embedder, head = Embedder(), nn.Linear(8, 5)
    model = nn.Sequential(embedder)
    branch = U1Branch(model, 5, neck=dict(plane='image', layers=layers))
    with branch.reading() as reader:
        output = model(torch.rand(2, 3, 32, 48))
        (found,) = reader.maps()
    assert torch.equal(found, output['last_hidden_state'])
    logits = head(output['pooler_output'].flatten(1))
    losses = branch(logits.argmax(1))
    losses['loss_u1'].backward()
    assert (embedder.conv.weight.grad != 0).any()
