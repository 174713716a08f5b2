"""The study's statistics, and the benchmark as a command."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import memory_classifier, memory_config
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image
from twins import load_tool

from u1_plugin.lab.memory_maps import read_maps


@pytest.fixture(scope='module')
def study():
    return load_tool('memory_study.py')


@pytest.fixture(scope='module')
def size():
    return load_tool('benchmarks/memory_size.py')


@pytest.fixture(scope='module')
def approximate():
    return load_tool('benchmarks/memory_recall.py')


def test_summary_counts_gains_and_losses(study):
    plain = np.array([True, True, False, False] * 5)
    better = np.array([True, False, True, True] * 5)
    rights = [dict(pixel=plain, image=better)] * 2
    rights.append(dict(pixel=plain, image=plain))
    summary = study.summarise(rights)
    assert summary['pixel'] == dict(accuracy=[50.0] * 3)
    row = summary['image']
    assert row['accuracy'] == [75.0, 75.0, 50.0]
    assert row['difference']['mean'] == pytest.approx(50 / 3)
    assert (row['gained'], row['lost']) == (20, 10)
    # Twice the binomial tail of 20 or more heads in 30 tosses.
    assert row['mcnemar'] == pytest.approx(0.0987, abs=1e-4)


def test_what_the_angle_has_beyond_each_control(study, capsys):
    others = dict(position=[91.0, 93, 92], radius=[90.0, 90, 90])
    arms = dict(image=[92.0, 93, 94], shuffled=[92.0, 93, 94], **others)
    beyond = study.beyond_controls(
        {k: dict(accuracy=v) for k, v in arms.items()}
    )
    assert beyond['position']['mean'] == pytest.approx(1)
    # Student's t of the differences 1, 0 and 2 with 2 degrees of freedom.
    assert beyond['position']['high'] == pytest.approx(
        1 + 4.3027 / 3**0.5, abs=1e-3
    )
    assert beyond['shuffled']['mean'] == 0
    study.show({}, beyond, study.Console(width=100))
    assert (
        'image less position: +1.00 [-1.48, +3.48]' in capsys.readouterr().out
    )


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


def planted(images=60, classes=3, channels=8):
    """Maps whose class is plain to see, and whose classes are balanced."""
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(images) % classes
    maps = torch.rand(images, channels, 2, 2, generator=generator)
    maps[torch.arange(images), labels] += 5
    plane = MODELS.build(dict(type='FeaturePlane', in_channels=channels))
    return maps, labels, plane


def test_a_split_of_the_study_with_few_shots(study):
    right, chosen = study.run_split(*planted(), seed=0, shots=2)
    assert set(right) == {'pooled', *study.STRENGTHS, 'knn', 'linear'}
    # Four images teach a linear probe little.
    assert right.pop('linear').mean() > 0.5
    assert all(len(r) == 12 and r.all() for r in right.values())
    # Of equals, the weakest.
    assert chosen['image'] == (0.5, 1) and chosen['position'] == (0.8, 1)


def test_classes_too_small_for_three_parts_are_named(study):
    maps, labels, plane = planted()
    labels[:3] = 3
    with pytest.raises(ValueError, match='a class has 3 images.*5'):
        study.run_split(maps, labels, plane, seed=0)


@pytest.mark.parametrize(
    'args, words',
    [
        (['--splits', '1'], '--splits 1'),
        (['--shots', '0'], '--shots 0'),
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
        with pytest.raises((ValueError, OSError), match='--out'):
            study.main()
    assert taken.read_text() == 'mine' and len(list(tmp_path.iterdir())) == 1


def test_maps_of_a_config(tmp_path):
    """Each data set once, from any hook; a map of huge numbers stays finite."""
    model = memory_classifier()
    with torch.no_grad():
        model.backbone.layer4[1].bn2.weight.fill_(1e9)
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), weights)
    data = {n: dict(type='Pictures', count=n) for n in (12, 13)}
    loader = dict(batch_size=8, num_workers=0)
    config = Config(
        dict(
            default_scope='mmpretrain',
            model=memory_config(),
            data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
            val_dataloader=dict(loader, dataset=data[13]),
            test_dataloader=dict(loader, dataset=data[13]),
            custom_hooks=[
                dict(type='EMAHook'),
                dict(
                    type='MemoryBankHook',
                    dataloader=dict(loader, dataset=data[12]),
                ),
            ],
        )
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        maps, labels, plane = read_maps(config, str(weights))
    assert labels.tolist() == [*(i % 10 for i in range(12))] + [
        i % 10 for i in range(13)
    ]
    assert maps.shape == (25, 64, 4, 4) and maps.isfinite().all()
    assert maps.max() > 65504
    torch.testing.assert_close(maps[:12], maps[12:24])
    assert plane.in_channels == 64


def test_sizes_of_memories(size):
    options = SimpleNamespace(keep=[1, 2], coreset=[0.25], k=1)
    results = [size.run_split(*planted(), options, s) for s in range(2)]
    records = {r['variant']: r for r in size.summarise(results)}
    # 36 images of 4 pixels; 8 numbers, label, image, place and hue a pixel.
    other = 8 + 8 + 8 + 4
    full = records['all pixels, float32']
    assert (full['vectors'], full['bytes']) == (144, 144 * (32 + other))
    assert records['keep=1']['bytes'] == 36 * (32 + other)
    assert records['float16']['bytes'] == 144 * (16 + other)
    assert records['uint8']['bytes'] == 144 * (8 + 4 + other)
    assert records['coreset=0.25']['vectors'] == 36
    assert records['random 0.25']['vectors'] == 36
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


@pytest.mark.parametrize('arm', ['position', 'radius'])
def test_a_narrow_kernel_of_the_study_finds_a_class(study, arm):
    """Its votes are too small for a number, but of one class alone."""
    maps, labels, plane = planted()
    memory = study.pixels_of(maps, labels, plane)
    asked = memory.select(torch.arange(4))
    far = memory.positions[:, 0].argmax().repeat(4, 1)
    zeros = torch.zeros(4, 1).double()
    own = (memory.labels, memory.images, memory.positions, memory.hues)
    found = study.Matches(zeros, far, *(field[far] for field in own))
    asked = asked._replace(positions=torch.full((4, 2), -0.1))
    queries = study.Queried(asked, found, labels[:1])
    guess = study.predicted(arm, 1e-3, 1, queries, memory, None)
    assert guess.tolist() == [memory.labels[far[0, 0]]]
