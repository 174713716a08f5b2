"""The study's statistics, and the benchmark as a command."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import memory_classifier, memory_config
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from planted_maps import planted
from twins import load_tool

from u1_plugin.lab.folds import Split


@pytest.fixture(scope='module')
def study():
    return load_tool('studies/memory_study.py')


@pytest.fixture(scope='module')
def size():
    return load_tool('benchmarks/memory_size.py')


@pytest.fixture(scope='module')
def approximate():
    return load_tool('benchmarks/memory_recall.py')


def test_what_the_study_shows(study, capsys):
    plain, image = np.arange(10) < 5, np.arange(10) < 7
    right = dict(pixel=plain, image=image, radius=image)
    right.update(position=np.arange(10) < 6, shuffled=plain)
    splits = [Split(np.arange(10), right, {})]
    summary, beyond = study.summarise(splits), study.beyond_controls(splits)
    study.show(summary, beyond, study.Console(width=100))
    shown = capsys.readouterr().out
    # Half an image in each of four cells: 1/12 and sqrt(23)/12/sqrt(12).
    assert 'image less position: +10.00 [-14.28, +30.95]' in shown
    assert 'image less radius: +0.00 [-16.33, +16.33]' in shown
    (row,) = (line for line in shown.splitlines() if ' image ' in line[:12])
    cells = [cell.strip() for cell in row.split('│')[1:-1]]
    # A gain of two images in ten; both signs alike: 1/4 each, on two sides.
    assert cells[:2] == ['image', '70.00'] and cells[3:] == ['2', '0', '0.500']


@pytest.mark.slow
def test_benchmark(root, environment, tmp_path):
    command = [
        *(sys.executable, str(root / 'tools/benchmarks/memory_search.py')),
        *('--sizes', '300', '--queries', '4', '--channels', '8'),
        *('--repeat', '2', '--threads', '1', '--out', 'bench.json'),
        *('--engines', 'exact', 'sklearn'),
    ]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    records = json.loads((tmp_path / 'bench.json').read_text())
    assert [r['engine'] for r in records] == ['exact', 'sklearn']
    assert all(len(r['rates']) == 2 and min(r['rates']) > 0 for r in records)
    again = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode and 'exists' in again.stderr


@pytest.mark.parametrize(
    'args, words',
    [
        (['--splits', '0'], "--splits: '0' must be an integer >= 1"),
        (['--splits', '6'], "--splits: '6' must be below 5 or a multiple"),
        (['--shots', '0'], "--shots: '0' must be an integer >= 1"),
    ],
)
def test_misuse_of_the_study_is_named(study, args, words, monkeypatch, capsys):
    argv = ['memory_study.py', 'config.py', 'weights.pth', *args]
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit):
        study.main()
    assert words in capsys.readouterr().err


def test_the_study_overwrites_nothing(study, tmp_path, monkeypatch):
    """Before anything is read: neither config nor weights are there."""
    taken = tmp_path / 'taken.json'
    taken.write_text('mine')
    for out in (taken, taken / 'numbers.json'):
        argv = ['memory_study.py', 'none.py', 'none.pth', '--out', str(out)]
        monkeypatch.setattr(sys, 'argv', argv)
        with pytest.raises(SystemExit, match='--out'):
            study.main()
    assert taken.read_text() == 'mine' and len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A command line of a config and its weights, which a call changes."""
    weights = tmp_path / 'weights.pth'
    state = memory_classifier().state_dict()
    torch.save(dict(state_dict=state, meta={}), weights)

    def call(tool, *args, head=None, hook=None, count=30) -> None:
        pictures = dict(type='Pictures', count=count)
        loader = dict(batch_size=8, num_workers=0, dataset=pictures)
        hook = dict(type='MemoryBankHook', dataloader=loader, **(hook or {}))
        config = Config(
            dict(
                model=memory_config(**(head or {})),
                data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
                val_dataloader=loader,
                test_dataloader=loader,
                custom_hooks=[hook],
            )
        )
        config.dump(tmp_path / 'config.py')
        files = [str(tmp_path / 'config.py'), str(weights)]
        monkeypatch.setattr(sys, 'argv', ['tool', *files, *args])
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            tool.main()

    return call


@pytest.mark.parametrize('name', ['study', 'size', 'approximate'])
def test_options_of_another_memory_are_refused(name, command, request):
    """Read by none of the tools, they would change nothing in silence."""
    pytest.importorskip('faiss')
    tool = request.getfixturevalue(name)
    given = dict(metric='l2', keep=2, coreset=0.5, dtype='uint8')
    with pytest.raises(SystemExit) as caught:
        command(tool, head=given, hook=dict(shots=3))
    words = str(caught.value)
    for field, value in given.items():
        assert f'model.head.{field}={value!r}' in words
    assert 'MemoryBankHook.shots=3' in words and 'leave it out' in words


@pytest.mark.parametrize('name', ['study', 'size'])
def test_missing_configs_are_named(name, request, monkeypatch):
    tool = request.getfixturevalue(name)
    monkeypatch.setattr(sys, 'argv', ['tool', 'none.py', 'none.pth'])
    with pytest.raises(SystemExit, match='error: .*none.py'):
        tool.main()


@pytest.mark.parametrize('name', ['study', 'size'])
def test_a_config_without_a_memory_is_named(name, command, request):
    tool = request.getfixturevalue(name)
    with pytest.raises(SystemExit, match='error: model.head is LinearClsHead'):
        command(tool, head=dict(type='LinearClsHead'))


@pytest.mark.parametrize('name', ['study', 'size', 'approximate'])
def test_a_layer_is_named_as_it_was_asked_for(name, command, request):
    pytest.importorskip('faiss')
    tool = request.getfixturevalue(name)
    with pytest.raises(SystemExit, match='error: --layer.*nolayer'):
        command(tool, '--layer', 'backbone.nolayer')


def test_a_missing_interval_is_shown(study, size, capsys):
    """In brackets, which are no markup of the terminal's."""
    nothing = dict(mean=0.0, low=math.nan, high=math.nan)
    nothing.update(gained=0, lost=0, pvalue=1.0)
    row = dict(accuracy=[1.0], difference=nothing)
    study.show(dict(image=row), dict(radius=nothing), study.Console(width=120))
    shown = capsys.readouterr().out
    assert shown.count('+0.00 [no interval]') == 2
    record = dict(variant='all', vectors=1, bytes=1, accuracy=[1.0])
    records = [record, dict(record, difference=nothing)]
    size.show(records, size.Console(width=120))
    assert '+0.00 [no interval]' in capsys.readouterr().out


def test_numbers_that_are_none_are_null(size, command, tmp_path, monkeypatch):
    """As where every image differs by the same: 40 keep one pixel each."""

    def is_right(bank, queries, labels, k):
        return np.full(len(labels), len(bank) > 40)

    monkeypatch.setattr(size, 'is_right', is_right)
    options = ('--keep', '1', '--coreset', '1', '--splits', '2', '--k', '1')
    out = tmp_path / 'sizes.json'
    command(size, *options, '--out', str(out), count=50)

    def refused(word):
        raise AssertionError(word)

    records = json.loads(out.read_text(), parse_constant=refused)
    lows = [r['difference']['low'] for r in records if 'difference' in r]
    assert None in lows and 0 in lows


def test_more_neighbours_than_vectors_are_refused(size):
    options = SimpleNamespace(keep=[1], coreset=[0.25], k=49)
    with pytest.raises(ValueError, match='--k 49 is more than the 48 vectors'):
        size.run_split(*planted(), options, 0)


def test_sizes_of_memories(size):
    options = SimpleNamespace(keep=[1, 2], coreset=[0.25], k=1)
    results = [size.run_split(*planted(), options, s) for s in range(2)]
    records = {r['variant']: r for r in size.summarise(results)}
    # 48 of 60 images of 4 pixels: 8 numbers, label, image, place and hue.
    other = 8 + 8 + 8 + 4
    full = records['all pixels, float32']
    assert (full['vectors'], full['bytes']) == (192, 192 * (32 + other))
    assert records['keep=1']['bytes'] == 48 * (32 + other)
    assert records['float16']['bytes'] == 192 * (16 + other)
    assert records['uint8']['bytes'] == 192 * (8 + 4 + other)
    assert records['coreset=0.25']['vectors'] == 48
    assert records['random 0.25']['vectors'] == 48
    assert full['accuracy'] == [100.0, 100.0]
    assert records['keep=2']['difference']['mean'] == 0


def test_recall_counts_the_exact_neighbours(approximate):
    exact = torch.tensor([[0, 1], [2, 3]])
    found = torch.tensor([[1, 5], [3, 2]])
    value = approximate.recall(
        SimpleNamespace(indices=found), SimpleNamespace(indices=exact)
    )
    assert value == pytest.approx(0.75)
    assert approximate.cells_of(10**4) == 512


def test_queries_are_the_pixels_of_the_test_images(approximate):
    """However large the parts are, and wherever they lie."""
    maps = torch.arange(10.0).view(10, 1, 1, 1).expand(10, 3, 2, 2)
    parts = dict(memory=range(3), val=range(3, 9), test=range(9, 10))
    memory, queries = approximate.parted(maps, parts)
    assert memory.shape == (36, 3) and queries.shape == (4, 3)
    assert memory.unique().tolist() == list(range(9))
    assert queries.unique().tolist() == [9]
    # Validation images that are the test's are none of the memory.
    parts = dict(memory=range(4), val=range(4, 10), test=range(4, 10))
    memory, queries = approximate.parted(maps, parts)
    assert memory.unique().tolist() == [0, 1, 2, 3] and len(queries) == 24
    parts = dict(memory=range(10), val=range(10), test=range(10))
    with pytest.raises(ValueError, match='test_dataloader and the memory'):
        approximate.parted(maps, parts)


@pytest.mark.parametrize(
    'args, words',
    [
        (['--repeat', '0'], "--repeat: '0' must be an integer >= 1"),
        (['--queries', '0'], "--queries: '0'"),
        (['--nprobe', '1', '0'], "--nprobe: '0'"),
        (['--sizes', '5'], '--sizes 5 is less than --k 10'),
    ],
)
def test_misuse_of_the_recall_is_named(approximate, args, words, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['memory_recall.py', *args])
        with pytest.raises(SystemExit):
            approximate.parse_args()
    assert words in capsys.readouterr().err


def test_approximate_engines_are_measured(approximate, tmp_path, monkeypatch):
    pytest.importorskip('faiss')
    monkeypatch.chdir(tmp_path)
    options = SimpleNamespace(
        k=3, repeat=1, factories=['IVF{cells},Flat'], nprobe=[1, 128]
    )
    options.most_hnsw = 0
    bank = approximate.bank_of(approximate.synthetic(1000, 16, seed=0))
    queries = torch.cat(list(approximate.synthetic(20, 16, seed=1)))
    records = approximate.measure(bank, queries, options)
    assert [r['engine'] for r in records] == ['exact'] + ['IVF128,Flat'] * 2
    # Every cell visited is the exact answer.
    assert records[1]['recall'] < records[2]['recall'] == pytest.approx(1)
    assert records[2]['bytes'] > 1000 * 16 * 4
    assert not list(tmp_path.iterdir())


def test_faces_are_a_folder(root, environment, tmp_path):
    skimage = pytest.importorskip('skimage.data')
    tool = str(root / 'tools/dataset_converters/faces.py')
    command = [sys.executable, tool, 'faces']
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    images = skimage.lfw_subset()
    seen = set()
    for file in (tmp_path / 'faces').rglob('*.png'):
        number = int(file.stem)
        assert (file.parent.name == 'face') == (number < 100)
        pixels = np.asarray(Image.open(file)) / 255
        assert np.abs(pixels - images[number]).max() < 0.003
        seen.add(number)
    assert seen == set(range(200))
