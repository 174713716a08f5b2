"""Maps into the orthant: seeds, intervals, and files of what was found."""

import json
import math
import sys

import pytest
import torch
from helpers import build, plain_config
from mmengine.config import Config
from mmengine.registry import DefaultScope
from twins import load_tool


@pytest.fixture(scope='module')
def tool():
    return load_tool('studies/orthant_maps.py')


def test_one_checkpoint_is_no_two_seeds(tool, tmp_path):
    files = [tmp_path / name for name in ('a.pth', 'b.pth', 'c.pth')]
    for file, content in zip(files, 'aba'):
        file.write_text(content)
    a, b, c = map(str, files)
    tool.check_seeds([a, b])
    tool.check_seeds(['https://some.where/a.pth', b])
    link = tmp_path / 'link.pth'
    link.symlink_to(b)
    for names in ((a, a), (a, b, a), (a, c), (b, str(link))):
        with pytest.raises(ValueError, match='hold the same.*each once'):
            tool.check_seeds(list(names))
    with pytest.raises(FileNotFoundError, match='none.pth does not exist'):
        tool.check_seeds([a, 'none.pth'])


def test_intervals_are_shown_and_so_is_that_there_is_none(tool, capsys):
    alike = dict(relu=[50.0, 60.0], abs=[51.0, 61.0], softplus=[50.0, 61.0])
    tool.show(dict(hue=alike), tool.Console(width=100))
    shown = capsys.readouterr().out
    assert '+1.00 [no interval]' in shown and 'nan' not in shown
    assert '+0.50 [-5.85, +6.85]' in shown


@pytest.fixture
def call(tool, tmp_path, monkeypatch):
    """The command on random pictures; its options follow."""
    weights = tmp_path / 'weights.pth'
    state = build(plain_config()).state_dict()
    torch.save(dict(state_dict=state, meta={}), weights)
    loader = dict(
        batch_size=25,
        num_workers=0,
        dataset=dict(type='Pictures', count=50),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    config = Config(
        dict(
            model=plain_config(),
            data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
            val_dataloader=loader,
        )
    )
    config.dump(tmp_path / 'config.py')

    def run(*args, checkpoint=None) -> None:
        names = [str(tmp_path / 'config.py'), str(checkpoint or weights)]
        monkeypatch.setattr(sys, 'argv', ['orthant_maps.py', *names, *args])
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            tool.main()

    return run


def test_numbers_that_are_none_are_null(tool, call, tmp_path, monkeypatch):
    """The file is JSON, which has no word for them."""
    monkeypatch.setattr(tool, 'accuracy', lambda *_: math.nan)
    out = tmp_path / 'out.json'
    call('--layer', 'backbone.layer4', '--out', str(out))
    assert json.loads(out.read_text())['hue']['relu'] == [None]
    assert 'NaN' not in out.read_text()


def test_what_is_wrong_is_said_in_a_line(call, tmp_path):
    with pytest.raises(SystemExit, match='error: --layer.*nolayer'):
        call('--layer', 'nolayer')
    with pytest.raises(SystemExit, match='error: .*none.pth does not exist'):
        call('--layer', 'backbone', checkpoint=tmp_path / 'none.pth')
