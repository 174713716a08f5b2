"""Data configs are read as people write them: wrappers, classes and TTA."""

import inspect

import numpy as np
import pytest
import torch
from helpers import Pictures
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader, Subset

from u1_plugin.lab.subsets import subset_dataset
from u1_plugin.mm import data
from u1_plugin.mm.data_content import content_digests, gt_labels
from u1_plugin.mm.memory_loader import MemoryImages, MemorySampler

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')
FLIP = dict(type='RandomFlip', prob=0.5)
TEST = [LOAD, dict(type='Resize', scale=8), PACK]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three, two and one pictures of the classes a, b and c."""
    root = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(0)
    for name, count in dict(a=3, b=2, c=1).items():
        (root / name).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f'{number}.png')
    return root


def leaf(folder, **options) -> dict:
    return dict(
        type='CustomDataset',
        data_root=str(folder),
        pipeline=[dict(LOAD), dict(FLIP), dict(PACK)],
        serialize_data=False,  # to be quick
    ) | dict(options)


WRAPS = dict(
    plain=lambda inner: inner,
    repeat=lambda inner: dict(type='RepeatDataset', times=2, dataset=inner),
    balanced=lambda inner: dict(
        type='ClassBalancedDataset', oversample_thr=0.9, dataset=inner
    ),
    concat=lambda inner: dict(type='ConcatDataset', datasets=[inner, inner]),
    fold=lambda inner: dict(
        type='KFoldDataset', fold=1, num_splits=3, seed=0, dataset=inner
    ),
    nested=lambda inner: dict(
        type='RepeatDataset',
        times=3,
        dataset=dict(
            type='ConcatDataset',
            datasets=[dict(type='RepeatDataset', times=2, dataset=inner)] * 2,
        ),
    ),
)


def build(config):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(ConfigDict(config))


def paths(dataset) -> list:
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [info['img_path'] for info in infos]


@pytest.mark.parametrize('name', WRAPS)
def test_wrapped_training_images_under_the_test_pipeline(folder, name):
    config = ConfigDict(
        train_dataloader=dict(dataset=WRAPS[name](leaf(folder))),
        test_dataloader=dict(dataset=leaf(folder, pipeline=TEST)),
    )
    before = repr(config)
    built = build(data.training_images(config, 'hook'))
    assert repr(config) == before  # a copy
    assert all(
        [type(step).__name__ for step in part.pipeline.transforms]
        == ['LoadImageFromFile', 'Resize', 'PackInputs']
        for part in data.leaves(built)
    )
    every = paths(build(leaf(folder)))
    wrapped = paths(build(WRAPS[name](leaf(folder))))
    # The wrapped set's images: all parts of a union, one fold of a division,
    # and no image twice only because the sampling of training wants it so.
    times = {'concat': 2, 'nested': 2}.get(name, 1)
    assert paths(built) == (wrapped if name == 'fold' else every * times)
    assert set(paths(built)) == set(wrapped)


@pytest.mark.parametrize('name', WRAPS)
def test_labels_and_content_through_built_wrappers(folder, name):
    built = build(WRAPS[name](leaf(folder)))
    items = [built[i]['data_samples'].gt_label for i in range(len(built))]
    expected = torch.cat(items).numpy()
    assert gt_labels(built).tolist() == expected.tolist()
    subset = Subset(built, [2, 0])
    assert gt_labels(subset).tolist() == expected[[2, 0]].tolist()
    assert content_digests(subset, [1]) == content_digests(built, [0])
    last = [len(built) - 1]
    assert content_digests(built, [0]) != content_digests(built, last)


def test_content_is_not_the_path(folder, tmp_path):
    moved = tmp_path / 'moved'
    moved.mkdir()
    for file in sorted(folder.rglob('*.png')):
        (moved / file.parent.name).mkdir(exist_ok=True)
        (moved / file.parent.name / file.name).write_bytes(file.read_bytes())
    numbers = range(6)
    here = content_digests(build(leaf(folder)), numbers)
    assert content_digests(build(leaf(moved)), numbers) == here
    # Another picture under the same name.
    (moved / 'b/1.png').write_bytes((moved / 'a/0.png').read_bytes())
    assert content_digests(build(leaf(moved)), numbers) != here


def test_files_are_read_where_the_data_set_reads_them(folder):
    """By the loading step, wherever it stands; and by one for all."""
    parts = [leaf(folder)]
    for name in ('local', 'none such'):
        load = dict(LOAD, backend_args=dict(backend=name))
        parts.append(leaf(folder, pipeline=[dict(FLIP), load, dict(PACK)]))
    first, second, last = map(build, parts)
    assert content_digests(first, [1]) == content_digests(second, [1])
    with pytest.raises(KeyError, match='none such'):
        content_digests(last, [1])
    union = build(dict(type='ConcatDataset', datasets=parts[:2]))
    assert content_digests(union, [7]) == content_digests(first, [1])
    union = build(dict(type='ConcatDataset', datasets=parts))
    with pytest.raises(ValueError, match='by different backend_args=.*none s'):
        content_digests(union, [1])


def test_a_list_of_data_sets_is_their_union(folder):
    parts = [WRAPS['repeat'](leaf(folder)), leaf(folder)]
    assert len(build(data.once(parts))) == 12
    assert len(list(data.leaves(parts))) == 2


def test_wrappers_whose_types_are_classes(folder):
    inner = dict(leaf(folder), type=CustomDataset)
    config = dict(type=RepeatDataset, times=2, dataset=inner)
    assert data.once(config) == inner
    lazy = [dict(type=LoadImageFromFile), dict(type=PackInputs)]
    found = data.with_pipeline(config, lazy)
    assert found['dataset']['pipeline'] == lazy


def test_the_loaders_pipeline_and_no_variable(folder):
    wrapped = WRAPS['repeat'](leaf(folder, pipeline=TEST))
    config = ConfigDict(
        test_pipeline=[LOAD, PACK],
        val_dataloader=dict(dataset=leaf(folder)),
        test_dataloader=dict(dataset=wrapped),
    )
    assert data.test_pipeline(config) == TEST
    config.test_dataloader = None
    assert data.test_pipeline(config)[1] == FLIP
    config.val_dataloader = None
    with pytest.raises(ValueError, match='test_dataloader'):
        data.test_pipeline(config)
    loader = DataLoader(build(wrapped))
    (step, *_) = data.pipeline_of(loader, 'test_dataloader')
    assert isinstance(step, LoadImageFromFile)
    both = dict(
        type='ConcatDataset',
        datasets=[leaf(folder), leaf(folder, pipeline=TEST)],
    )
    with pytest.raises(ValueError, match='val_dataloader.dataset.*2 data sets'):
        data.pipeline_of(dict(dataset=both), 'val_dataloader')
    assert (
        data.test_pipeline(dict(test_dataloader=dict(dataset=dict()))) is None
    )


def test_one_view_of_test_time_augmentation():
    flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0)]
    sizes = [dict(type='Resize', scale=8), dict(type='Resize', scale=9)]
    augment = dict(type='TestTimeAug', transforms=[sizes, flips, [PACK]])
    assert data.one_view([LOAD, augment]) == TEST


def test_loading_follows_the_data_set(folder):
    packs = [dict(PACK)]
    assert data.reading_files(packs) == [LOAD, PACK]
    assert data.reading_files(TEST) == TEST
    in_memory = dict(type='CIFAR10', pipeline=[dict(FLIP), dict(PACK)])
    assert data.with_pipeline(in_memory, TEST)['pipeline'] == TEST[1:]
    grey = dict(LOAD, color_type='grayscale')
    files = leaf(folder, pipeline=[grey, dict(PACK)])
    assert data.with_pipeline(files, packs)['pipeline'] == [grey, PACK]
    assert data.with_pipeline(files, TEST)['pipeline'] == TEST
    # A data set that prepares its images by itself.
    assert data.with_pipeline(dict(type='Pictures'), None) == dict(
        type='Pictures'
    )


def test_what_cannot_be_prepared_is_named(folder):
    with pytest.raises(ValueError, match="type='CustomDataset'.*pipeline"):
        data.with_pipeline(leaf(folder), None)
    with pytest.raises(ValueError, match='dataset=Pictures is built'):
        data.with_pipeline(Pictures(), TEST)
    with pytest.raises(ValueError, match='SomeHook.*train_dataloader'):
        data.training_images(ConfigDict(), 'SomeHook')


def test_a_sampler_names_its_options():
    labels = Pictures(20)
    chosen = MemorySampler(labels, np.int64(1), shots_seed=np.int64(2)).chosen
    assert chosen == MemorySampler(labels, 1, 2).chosen and len(chosen) == 10
    for options in (dict(shots_seed=-1), dict(shots=0), dict(shots=True)):
        name, value = next(iter(options.items()))
        with pytest.raises(ValueError, match=f'MemorySampler.{name}={value}'):
            MemorySampler(labels, **options)


def test_functions_in_a_pipeline_count():
    """Such as of two lambdas that are written alike."""
    steps = [dict(type='Lambda', func=f) for f in (lambda x: x, lambda x: -x)]
    one, two = map(data.described, steps)
    assert one != two
    assert one == data.described(dict(type='Lambda', func=lambda x: x))


@pytest.mark.parametrize('build', ['subset', 'memory'])
def test_nothing_of_an_earlier_copy_comes_into_a_data_set(folder, build):
    """MMEngine's memo of copies is shared, and knows objects by address."""
    plain = dict(
        type='mmpretrain.CustomDataset', data_root=str(folder), pipeline=[]
    )
    DATASETS.build(ConfigDict(plain)).get_subset([0])
    copied = inspect.signature(BaseDataset._copy_without_annotation)
    memo = copied.parameters['memo'].default
    if memo is None:
        pytest.skip('this MMEngine shares no memo')
    assert memo
    memo['stale'] = None
    if build == 'subset':
        subset_dataset(of='CustomDataset', data_root=str(folder), pipeline=[])
    else:
        loader = dict(batch_size=1, num_workers=0, dataset=plain)
        MemoryImages({}, loader).build()
    assert 'stale' not in memo


@pytest.mark.parametrize('name', ['repeat', 'balanced', 'nested'])
def test_a_subset_that_is_repeated_is_shown_once(name, folder):
    """The draw is one of the images inside, and stays the same one."""
    inner = WRAPS[name](leaf(folder))
    kind = inner.pop('type')
    options = dict(type='SubsetDataset', of=kind, shots=1, seed=4)
    repeated = build(dict(options, **inner))
    shown = build(data.once(dict(options, **inner)))
    assert sorted(paths(shown)) == sorted(set(paths(repeated)))
    assert len(shown) < len(repeated)


def test_what_comes_before_the_loading_step_stays(folder):
    first = dict(type='Collect')
    config = ConfigDict(
        train_dataloader=dict(
            dataset=leaf(folder, pipeline=[first, LOAD, FLIP, PACK])
        ),
        test_dataloader=dict(dataset=leaf(folder, pipeline=TEST)),
    )

    def steps(dataset) -> list:
        return [data.type_name(step) for step in dataset['pipeline']]

    shown = data.training_images(config, 'hook')
    assert steps(shown) == ['LoadImageFromFile', 'Resize', 'PackInputs']
    # Such a step may find what is to be loaded: it goes where that goes.
    config.test_dataloader.dataset.pipeline = TEST[1:]
    shown = data.training_images(config, 'hook')
    assert steps(shown) == ['Collect', *map(data.type_name, TEST)]
    config.train_dataloader.dataset.pipeline = [first, PACK]
    config.test_dataloader.dataset.pipeline = [first, *TEST]
    shown = data.training_images(config, 'hook')
    assert steps(shown) == ['Collect', 'Resize', 'PackInputs']
