"""A grid of votes, retrieval, drawn pixels; the tool as a command."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import images, memory_classifier
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from PIL import Image
from rich.console import Console

from u1_plugin.lab.memory_evaluation import Grid, Metrics, evaluate
from u1_plugin.lab.memory_maps import LayerView, hook_options, query_loader
from u1_plugin.lab.memory_test_report import (
    Cell,
    Match,
    QueryRow,
    as_picture,
    cell_of,
    draw_matches,
    show,
    write_pictures,
)
from u1_plugin.memory import Kernel, Rule
from u1_plugin.mm.hooks.memory_bank_hook import MemoryBankHook

CLASSES = 3


@pytest.fixture(scope='module')
def model():
    init_default_scope('mmpretrain')
    model = memory_classifier(num_classes=CLASSES)
    feats = model.extract_feat(images(12), stage='backbone')
    model.head.fill(feats, torch.arange(12) % CLASSES, torch.arange(12))
    return model


def batches(model, count=5):
    """Preprocessed already."""
    inputs = images(count, seed=5)
    samples = [DataSample().set_gt_label(i % CLASSES) for i in range(count)]
    return [
        dict(inputs=inputs[:3], data_samples=samples[:3]),
        dict(inputs=inputs[3:], data_samples=samples[3:]),
    ]


def test_every_cell_is_what_the_head_votes(model, monkeypatch):
    view = LayerView(model, model.head, None, None)
    monkeypatch.setattr(view, 'data_preprocessor', _identity)
    grid = Grid('image', [0.0, 4.0], [1, 7])
    found = evaluate(view, batches(model), grid, draw=[0, 4])
    labels = np.arange(5) % CLASSES
    assert len(found['rows']) == 4
    for row in found['rows']:
        model.head.k, model.head.kappa = row['k'], row['strength']
        guess = model(images(5, seed=5)).argmax(1).numpy()
        assert row['accuracy/top1'] == pytest.approx(
            100 * np.mean(guess == labels), abs=1e-3
        )
        assert 'single-label/f1-score' in row
    # Over both batches; the nearest pixel is in the memory.
    assert [m['number'] for m in found['matches']] == [0, 4]
    for match in found['matches']:
        assert match['map_shape'] == [4, 4] and len(match['pixels']) == 5
        assert all(p['label'] == p['image'] % 3 for p in match['pixels'])


class _Identity(torch.nn.Module):
    def forward(self, data, training):
        return data


_identity = _Identity()


def test_a_named_layer_gives_its_map(model):
    inputs = images(2)
    last = LayerView(model, model.head, None, None).extract_feat(inputs)
    same = LayerView(model, model.head, 'backbone.layer4', None)
    torch.testing.assert_close(same.extract_feat(inputs)[0], last[-1])
    early = LayerView(model, model.head, 'backbone.layer2', None)
    assert early.extract_feat(inputs)[0].shape == (2, 16, 16, 16)


def test_retrieval_is_average_precision_by_hand(model):
    metrics = Metrics(Grid('image', [0.0], [1]), model.head.bank, CLASSES)
    (feats,) = model.extract_feat(images(12), stage='backbone')
    pooled = feats.relu().mean((2, 3)).detach()
    torch.testing.assert_close(
        metrics.vectors, torch.nn.functional.normalize(pooled)
    )
    query = images(1, seed=9)
    (feats,) = model.extract_feat(query, stage='backbone')
    vector = feats.relu().mean((2, 3)).detach()
    scores = {(0.0, 1): torch.tensor([[1.0, 0.0, 0.0]])}
    metrics.add(scores, vector, torch.tensor([0]))
    order = (pooled / pooled.norm(dim=1, keepdim=True)) @ vector[0]
    hits = (order.argsort(descending=True) % CLASSES == 0).numpy()
    precision = np.cumsum(hits) / np.arange(1, 13)
    found = metrics.result()
    assert found['retrieval']['retrieval/mAP@12'] == pytest.approx(
        100 * precision[hits].mean(), abs=1e-3
    )
    assert found['retrieval']['retrieval/Recall@1'] == 100 * hits[0]
    assert found['rows'][0]['accuracy/top1'] == 100


def test_kernels_take_sigma():
    kernel = Kernel('softmax', 0.07)
    grid = Grid('position', [0.5], [1, 20], kernel)
    assert grid.rule(0.2) == Rule('position', 0.0, 0.2, kernel)
    assert Grid('both', [2.0], [1]).rule(2.0) == Rule('both', 2.0)
    assert str(grid) == 'plane position, kernel softmax, T 0.07, k 1 20'


def test_cells_lie_where_their_pixels_do():
    # Of a map of 2 rows and 4 columns: bottom left.
    half = np.hypot(3, 1) / 2
    cell = cell_of((-1.5 / half, -0.5 / half), (2, 4))
    assert cell.center == pytest.approx((0.125, 0.75))
    assert cell.size == (0.25, 0.5)
    assert cell_of((0.0, 0.0), (1, 1)).center == (0.5, 0.5)


def test_picture_marks_both_images():
    image = np.zeros((20, 40, 3), np.uint8)
    cell = Cell((0.125, 0.75), (0.25, 0.5))
    rows = [QueryRow(image, 'q', [Match(image, 'm', cell, cell)])]
    query, match = draw_matches(rows).axes
    for ax in (query, match):
        (patch,) = ax.patches
        assert patch.get_bbox().bounds == pytest.approx((-0.5, 9.5, 10, 10))
        assert [t.get_text() for t in ax.texts] == ['1']
    whole = draw_matches([QueryRow(image, 'q', [Match(image, 'm')])])
    assert not any(ax.patches for ax in whole.axes)


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

    def run(*args):
        script = str(root / 'tools/memory_test.py')
        return subprocess.run(
            [sys.executable, script, 'config.py', *args],
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
        (['--draw', '-1'], '--draw -1'),
        (['--k', '1', '0'], '--k 0'),
        (['--kappa', '-1'], '--kappa -1'),
        (['--kappa', '0', 'nan'], '--kappa nan'),
        (['--kappa', 'inf'], '--kappa inf'),
        (['--sigma', '0'], '--sigma 0'),
        (['--sigma', 'nan'], '--sigma nan'),
        (['--shots', '0'], '--shots 0'),
        (['--seed', '-1'], '--seed -1'),
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
    with pytest.raises(SystemExit, match='layer3.*mmap'):
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
        with pytest.raises((ValueError, OSError), match='--out'):
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
    with pytest.raises(SystemExit, match='--seed=5 draws shots'):
        module.hook_of(config, None, SimpleNamespace(shots=None, seed=5))
    built = SimpleNamespace(
        custom_hooks=[MemoryBankHook()], get=lambda _: [MemoryBankHook()]
    )
    assert hook_options(built) == {}
    assert hook_options(Config(dict(custom_hooks=None))) == {}


def test_queries_are_all_images_in_order():
    loader = dict(
        batch_size=4,
        num_workers=0,
        drop_last=True,
        num_batch_per_epoch=1,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='Pictures', count=6),
    )
    config = Config(dict(test_dataloader=loader))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        samples = [
            sample
            for batch in query_loader(config, 'test')
            for sample in batch['data_samples']
        ]
    assert [s.sample_idx for s in samples] == list(range(6))
    with pytest.raises(ValueError, match='no val_dataloader'):
        query_loader(config, 'val')


def test_query_labels_outside_the_classes_are_named(model, monkeypatch):
    view = LayerView(model, model.head, None, None)
    monkeypatch.setattr(view, 'data_preprocessor', _identity)
    (first, _) = batches(model)
    first['data_samples'][1].set_gt_label(CLASSES)
    with pytest.raises(ValueError, match='labels 0..3.*num_classes=3'):
        evaluate(view, [first], Grid('image', [0.0], [1]), draw=[])


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_pictures_of_any_channels(channels):
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (channels, 4, 5), dtype=np.uint8)
    picture = as_picture(inputs, bgr=True)
    assert picture.shape == (4, 5, 3) and picture.dtype == np.uint8
    colour = [2, 1, 0] if channels > 2 else [0, 0, 0]
    np.testing.assert_array_equal(picture.transpose(2, 0, 1), inputs[colour])
    unit = as_picture(inputs.astype(np.float32) / 255, bgr=True)
    assert np.abs(unit.astype(int) - picture).max() <= 1


class _Named:
    """Two images of a class whose name is markup."""

    metainfo = dict(classes=['$\\frac{[red]x', 'a_b$'])

    def __getitem__(self, index):
        sample = DataSample(metainfo=dict(img_path='[bold]$x_'))
        return dict(inputs=torch.zeros(3, 8, 8).byte(), data_samples=sample)


def test_names_are_plain_text(tmp_path, capsys):
    pixel = dict(
        image=0,
        label=1,
        distance=0.5,
        position=(0.0, 0.0),
        memory_position=(0.0, 0.0),
    )
    match = dict(
        number=0,
        true=0,
        voted=7,
        mode='pixel',
        map_shape=[1, 1],
        pixels=[pixel],
    )
    row = {'k': 1, 'accuracy/top1': 50.0}
    layer = '[red]net/a$_b[/red]'
    results = {
        layer: dict(
            rows=[row],
            retrieval={'retrieval/mAP': 1.0},
            vectors=1,
            channels=3,
            bytes=4,
            matches=[match],
        )
    }
    show(results, 'kappa', Grid('image', [0.0], [1]), Console(width=200))
    assert capsys.readouterr().out.count(layer) == 2
    data = _Named()
    write_pictures(results, data, (data, [0]), False, tmp_path)
    (picture,) = tmp_path.iterdir()
    assert picture.name == results[layer]['picture']


def test_a_kernel_has_no_kappa(module, model, monkeypatch):
    command = ['memory_test.py', 'config.py', '--plane', 'radius']
    monkeypatch.setattr(sys, 'argv', [*command, '--sigma', '0.2', '0.2'])
    grid = module.grid_of(model.head, module.parse_args())
    assert grid.strengths == [0.2] and grid.plane == 'radius'
    monkeypatch.setattr(sys, 'argv', [*command, '--kappa', '2'])
    with pytest.raises(ValueError, match="no effect on plane='radius'"):
        module.grid_of(model.head, module.parse_args())


@pytest.fixture
def module(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'tools'))
    return importlib.import_module('memory_test')
