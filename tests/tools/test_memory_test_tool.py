"""The tool that tests a memory takes its options and writes a report once."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import memory_classifier
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from u1_plugin.lab.memory_maps import hook_options
from u1_plugin.mm.hooks.memory_bank_hook import MemoryBankHook
from u1_plugin.mm.memory_inputs import GreyPlane

CONFIG = """
custom_imports = dict(imports=['u1_plugin'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=8,
                  stem_channels=8, out_indices=(3,)),
    head=dict(type='MemoryBankHead', num_classes=2, in_channels=64))
data_preprocessor = dict(num_classes=2, mean=[0] * 3, std=[255] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
loader = dict(batch_size=4, num_workers=0, dataset=dict(
    type='CustomDataset', data_root='data', pipeline=pipeline))
val_dataloader = test_dataloader = loader
custom_hooks = [dict(type='MemoryBankHook', dataloader=loader)]
"""


@pytest.fixture(scope='module')
def tool(root, environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp('tool')
    rng = np.random.default_rng(0)
    for label in ('a', 'b'):
        (folder / 'data' / label).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            file = folder / 'data' / label / f'{number}.png'
            Image.fromarray(pixels).save(file)
    (folder / 'config.py').write_text(CONFIG)
    model = Config.fromstring(CONFIG, '.py').model
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        state = MODELS.build(model).state_dict()
    torch.save(state, folder / 'weights.pth')

    def run(*args):
        script = str(root / 'tools/memory_test.py')
        return subprocess.run(
            [sys.executable, script, 'config.py', 'weights.pth', *args],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    run.folder = folder
    return run


def test_the_command_writes_a_report_once(tool):
    command = [
        *('--kappa', '0', '2', '--k', '1', '3', '--shots', '3'),
        *('--layers', 'backbone.layer3', 'backbone.layer4'),
        *('--out', 'out', '--draw', '2'),
    ]
    done = tool(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tool.folder / 'out/report.json').read_text())
    layers = report['layers']
    assert list(layers) == ['backbone.layer3', 'backbone.layer4']
    # 3 images of each of 2 classes, of 8x8 and of 4x4 pixels.
    assert [found['vectors'] for found in layers.values()] == [384, 96]
    for found in layers.values():
        assert len(found['rows']) == 4 and len(found['matches']) == 2
        first = found['matches'][0]['pixels'][0]
        assert first['path'].endswith('.png')
        with Image.open(tool.folder / 'out' / found['picture']) as picture:
            assert min(picture.size) > 300
    again = tool(*command)
    assert again.returncode and 'exists' in again.stderr


def test_the_command_line_reaches_into_the_engine(tool):
    """Also into a factory, whose comma MMEngine makes a list of."""
    pytest.importorskip('faiss')
    head = 'model.head.'
    done = tool(
        *('--k', '1', '3', '--out', 'cells', '--cfg-options'),
        *(f'{head}engine.type=faiss', f'{head}engine.factory=IVF4,Flat'),
        *(f'{head}engine.nprobe=2', f'{head}temperature=0.07'),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = ' '.join(done.stdout.split())
    assert 'top-1 %, plane image, kernel softmax, T 0.07, k 1 3' in shown
    line = 'kernel softmax, T 0.07, k 1 3; searched by faiss IVF4,Flat, nprobe'
    assert f'last map: plane image, {line} 2 of 4 cells, recall@3' in shown
    report = json.loads((tool.folder / 'cells/report.json').read_text())
    (found,) = report['layers'].values()
    assert found['engine'].startswith('faiss IVF4,Flat, nprobe 2 of 4 cells')
    for one in (report, *found['rows']):
        assert (one['kernel'], one['temperature']) == ('softmax', 0.07)
    assert report['k'] == [1, 3] == [row['k'] for row in found['rows']]


@pytest.mark.parametrize(
    'args, words',
    [
        (['--k', '1', '1000'], '--k 1000 is more than the 128 vectors'),
        (
            ['--shots', '1', '--cfg-options', 'model.head.k=33'],
            'model.head.k = 33 is more than the 32 vectors',
        ),
        (['--shots', '5000'], '--shots 5000, but class'),
        (['--layers', 'backbone.none'], '--layers'),
        (['--cfg-options', 'model.head.type=LinearClsHead'], 'MemoryBankHead'),
    ],
)
def test_what_is_wrong_is_said_in_a_line(here, args, words, monkeypatch):
    """Not as if there were such a k, and by the options that were given."""
    argv = ['memory_test.py', 'config.py', 'weights.pth', *args]
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit) as caught:
        here.main()
    assert str(caught.value).startswith('error: ')
    assert words in str(caught.value) and 'u1.neck' not in str(caught.value)


@pytest.mark.parametrize('files', [['none.py'], ['config.py', 'none.pth']])
def test_missing_files_are_named(here, files, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['memory_test.py', *files])
    with pytest.raises(SystemExit, match=f'error: .*{files[-1]}'):
        here.main()


@pytest.mark.parametrize(
    'engine, options, words',
    [
        (None, dict(nprobe=2), 'model.head.engine.type must be'),
        ('exact', dict(nprobe=2), 'model.head.engine.nprobe=2 is no option'),
        (
            'faiss:HNSW8',
            dict(nprobe=2),
            "model.head.engine.nprobe=2 is not read by factory='HNSW8'",
        ),
        ('faiss:IVF4,Flat', dict(nprobe=0), 'model.head.engine.nprobe=0 must'),
        ('faiss:IVF4,Flat', dict(nprobe=2), None),
        (dict(type='faiss', factory='IVF4,Flat'), dict(nprobe=2), None),
    ],
)
def test_an_engine_takes_options_of_the_command(
    module, tmp_path, engine, options, words
):
    """Its short form as well, of which MMEngine alone would know none."""
    pytest.importorskip('faiss')
    file, text = tmp_path / 'config.py', CONFIG
    if engine is not None:
        text += f'model["head"]["engine"] = {engine!r}\n'
    file.write_text(text)
    options = {f'model.head.engine.{k}': v for k, v in options.items()}
    args = SimpleNamespace(config=file, cfg_options=options)
    head = module.read_config(args).model.head
    if words is None:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            assert MODELS.build(head).engine == ('IVF4,Flat', 2, None)
        return
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        with pytest.raises(ValueError) as caught:
            MODELS.build(head)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    'args, words',
    [
        (['--draw', '2'], 'needs --out'),
        (['--draw', '-1'], "--draw: '-1' must"),
        (['--k', '1', '0'], "--k: '0' must"),
        (['--kappa', '-1'], "--kappa: '-1' must"),
        (['--kappa', '0', 'nan'], "--kappa: 'nan' must"),
        (['--kappa', 'inf'], "--kappa: 'inf' must"),
        (['--sigma', '0'], "--sigma: '0' must"),
        (['--sigma', 'nan'], "--sigma: 'nan' must"),
        (['--shots', '0'], "--shots: '0' must"),
        (['--seed', '-1'], "--seed: '-1' must"),
    ],
)
def test_misuse_is_named(module, args, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['memory_test.py', 'config.py', *args])
    with pytest.raises(SystemExit):
        module.parse_args()
    assert words in capsys.readouterr().err


def test_one_file_is_no_place_for_many_layers(module):
    hook = dict(type='MemoryBankHook', file='bank', mmap=True)
    cfg = Config(dict(custom_hooks=[hook]))
    args = SimpleNamespace(shots=None, seed=None)
    assert module.hook_of(cfg, None, args).mmap
    with pytest.raises(ValueError, match='layer3.*mmap'):
        module.hook_of(cfg, 'backbone.layer3', args)


def test_the_place_to_write_is_tried_before_the_work(
    module, tmp_path, monkeypatch
):
    """Neither the config nor the checkpoint is there; `--out` comes first."""
    taken = tmp_path / 'taken'
    taken.write_text('mine')
    for out in (taken, taken / 'out'):
        argv = ['memory_test.py', 'none.py', '--out', str(out)]
        monkeypatch.setattr(sys, 'argv', argv)
        with pytest.raises(SystemExit, match='--out'):
            module.main()
    assert taken.read_text() == 'mine' and len(list(tmp_path.iterdir())) == 1


def test_the_hook_of_any_config_is_found(module):
    args = SimpleNamespace(shots=None, seed=None)
    for kind in ('MemoryBankHook', 'mmpretrain.MemoryBankHook', MemoryBankHook):
        hook = dict(type=kind, shots=7, seed=3, priority='LOW')
        config = Config(dict(custom_hooks=[dict(type='EMAHook'), hook]))
        made = module.hook_of(config, None, args)
        assert (made.shots, made.seed) == (7, 3)
    other = module.hook_of(config, None, SimpleNamespace(shots=None, seed=5))
    assert (other.shots, other.seed) == (7, 5)
    del config.custom_hooks[1]['shots']
    with pytest.raises(ValueError, match='--seed=5 draws shots'):
        module.hook_of(config, None, SimpleNamespace(shots=None, seed=5))
    built = SimpleNamespace(
        custom_hooks=[MemoryBankHook()], get=lambda _: [MemoryBankHook()]
    )
    assert hook_options(built) == {}
    assert hook_options(Config(dict(custom_hooks=None))) == {}


def test_a_kernel_has_no_kappa(module, monkeypatch):
    command = ['memory_test.py', 'config.py', '--plane', 'radius']
    head = memory_classifier(num_classes=2).head
    monkeypatch.setattr(sys, 'argv', [*command, '--sigma', '0.2', '0.2'])
    grid = module.grid_of(head, module.parse_args())
    assert grid.strengths == [0.2] and grid.plane == 'radius'
    monkeypatch.setattr(sys, 'argv', [*command, '--kappa', '2'])
    with pytest.raises(ValueError, match="no effect on plane='radius'"):
        module.grid_of(head, module.parse_args())


@pytest.mark.parametrize('plane', ['feature', 'both'])
def test_one_channel_has_no_hue_to_vote_by(module, monkeypatch, plane):
    """All hues 0 would be the plain vote under another name."""
    command = ['memory_test.py', 'config.py', '--plane', plane]
    monkeypatch.setattr(sys, 'argv', [*command, '--kappa', '8'])
    head = memory_classifier(num_classes=2).head
    head.feature_plane = GreyPlane()
    with pytest.raises(ValueError, match='needs 3 or more channels'):
        module.grid_of(head, module.parse_args())


@pytest.fixture
def here(module, tool, monkeypatch):
    """The module, in the folder of the command's config and data."""
    monkeypatch.chdir(tool.folder)
    return module


@pytest.fixture
def module(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'tools'))
    return importlib.import_module('memory_test')
