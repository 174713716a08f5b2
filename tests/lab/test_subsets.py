"""Subsets are scarce, unbalanced or mislabelled as asked, of any data set."""

import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from picture_folders import PIPELINE, build, rng, write_folder
from PIL import Image

from u1_plugin.lab.subsets import few_shots, long_tail, noisy_labels


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp('images'))


def subset(folder, **options):
    fields = dict(type='SubsetDataset', of='CustomDataset')
    fields.update(data_root=str(folder), data_prefix='', pipeline=PIPELINE)
    return DATASETS.build(ConfigDict(fields, **options))


def test_few_shots_of_each_class(folder):
    data = subset(folder, shots=3)
    assert np.bincount(data.get_gt_labels()).tolist() == [3, 3, 3, 3]
    paths = [data.get_data_info(i)['img_path'] for i in range(len(data))]
    again = subset(folder, shots=3)
    assert paths == [again.get_data_info(i)['img_path'] for i in range(12)]
    other = subset(folder, shots=3, seed=1)
    assert paths != [other.get_data_info(i)['img_path'] for i in range(12)]
    # The pipeline runs, and labels are those of the folder.
    sample = data[5]['data_samples']
    assert f'/{int(sample.gt_label)}/' in paths[5]
    assert data.metainfo['classes'] == ('0', '1', '2', '3')


def test_long_tail_by_hand():
    labels = np.repeat([0, 1, 2], 100)
    kept = labels[long_tail(labels, 100, rng())]
    assert np.bincount(kept).tolist() == [100, 10, 1]
    assert len(long_tail(labels, 1, rng())) == 300
    assert np.bincount(labels[long_tail(labels, 1e6, rng())])[2] == 1


def test_noise_changes_so_many_labels_and_never_to_themselves():
    labels = np.repeat(np.arange(4), 500)
    noisy = noisy_labels(labels, 0.4, 4, rng())
    assert (noisy != labels).sum() == 800
    shift = (noisy - labels)[noisy != labels] % 4
    counts = np.bincount(shift, minlength=4)
    assert counts[0] == 0 and counts[1:].min() > 220  # uniform over others
    assert set(noisy) == {0, 1, 2, 3}


def test_noise_leaves_the_images_alone(folder):
    plain, noisy = build(folder), subset(folder, label_noise=0.5)
    paths, labels = zip(
        *(
            (info['img_path'], info['gt_label'])
            for info in map(noisy.get_data_info, range(len(noisy)))
        )
    )
    assert list(paths) == [
        plain.get_data_info(i)['img_path'] for i in range(48)
    ]
    assert (np.array(labels) != plain.get_gt_labels()).sum() == 24


def test_options_combine(folder):
    data = subset(folder, imbalance=3, shots=4, label_noise=0.25)
    assert len(data) == 16


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(shots=13), 'class 0 has 12'),
    ],
)
def test_subset_says_what_is_wrong(folder, options, message):
    with pytest.raises(ValueError, match=message):
        subset(folder, **options)


def test_three_options_make_a_subset_of_an_existing_config(root, folder):
    config = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    )
    at = 'train_dataloader.dataset.'
    config.merge_from_dict(
        {
            f'{at}type': 'SubsetDataset',
            f'{at}of': 'CustomDataset',
            f'{at}shots': 2,
            f'{at}data_root': str(folder),
            f'{at}data_prefix': '',
        }
    )
    assert len(DATASETS.build(config.train_dataloader.dataset)) == 8


def test_classes_that_do_not_occur_are_no_error():
    chosen = few_shots(np.array([3, 3, 0, 0, 0]), 1, rng())
    assert chosen.shape == (2,)


def wrapped(folder) -> dict:
    """Wrappers of the folder's 48 images, and how often each is seen."""
    plain = dict(
        type='CustomDataset',
        data_root=str(folder),
        data_prefix='',
        pipeline=PIPELINE,
    )
    parts = [dict(plain, indices=list(range(k, 48, 2))) for k in (0, 1)]
    concat = dict(type='ConcatDataset', datasets=parts)
    fold = dict(type='KFoldDataset', num_splits=2, seed=0, dataset=plain)
    balanced = dict(oversample_thr=1e-3, dataset=plain)
    return dict(
        repeat=(dict(type='RepeatDataset', times=3, dataset=plain), 3),
        balanced=(dict(type='ClassBalancedDataset', **balanced), 1),
        concat=(concat, 1),
        nested=(dict(type='RepeatDataset', times=2, dataset=concat), 2),
        fold=(dict(type='RepeatDataset', times=2, dataset=fold), 2),
    )


@pytest.mark.parametrize(
    'name', ['repeat', 'balanced', 'concat', 'nested', 'fold']
)
def test_a_subset_of_what_a_wrapper_wraps(name, folder):
    init_default_scope('mmpretrain')  # as a runner does
    options, times = wrapped(folder)[name]
    kind, whole = options['type'], DATASETS.build(ConfigDict(options))
    options.update(type='SubsetDataset', of=kind, shots=2)
    draws = []
    for seed in (0, 0, 1):
        data = DATASETS.build(ConfigDict(options, seed=seed))
        assert type(data).__name__ == kind and len(data) == 8 * times
        infos = [data.get_data_info(k) for k in range(len(data))]
        labels = [info['gt_label'] for info in infos]
        assert np.bincount(labels).tolist() == [2 * times] * 4
        draws.append([info['img_path'] for info in infos])
        own = {whole.get_data_info(k)['img_path'] for k in range(len(whole))}
        assert len(set(draws[-1])) == 8 and set(draws[-1]) <= own
        sample = data[len(data) - 1]['data_samples']
        assert sample.img_path == draws[-1][-1]
        assert data.metainfo['classes'] == tuple('0123')
    assert draws[0] == draws[1] != draws[2]


def test_a_wrapper_of_a_subset(folder):
    inner = dict(
        type='SubsetDataset',
        of='CustomDataset',
        shots=2,
        data_root=str(folder),
        data_prefix='',
        pipeline=PIPELINE,
    )
    wrap = dict(type='RepeatDataset', times=3, dataset=inner)
    assert len(DATASETS.build(ConfigDict(wrap))) == 24
    fold = dict(type='KFoldDataset', num_splits=2, dataset=inner)
    assert len(DATASETS.build(ConfigDict(fold))) == 4
    fold.update(type='SubsetDataset', of='KFoldDataset')
    with pytest.raises(ValueError, match='option seed of its own'):
        DATASETS.build(ConfigDict(fold))
    with pytest.raises(ValueError, match="of='Nothing' is no registered"):
        DATASETS.build(dict(type='SubsetDataset', of='Nothing'))


def labelled(folder, labels, **options):
    Image.new('RGB', (8, 8)).save(folder / 'i.png')
    text = ''.join(f'i.png {label}\n' for label in labels)
    (folder / 'list.txt').write_text(text)
    return DATASETS.build(
        dict(
            dict(
                type='SubsetDataset',
                of='CustomDataset',
                pipeline=[],
                data_prefix=str(folder),
                ann_file=str(folder / 'list.txt'),
                metainfo=dict(classes=['a', 'b', 'c']),
            ),
            **options,
        )
    )


def test_labels_change_by_noise_alone(tmp_path):
    for labels in ([0, 1, 2, 3, 4, 5], [-1, 0, 1], [0, 0, 0]):
        data = labelled(tmp_path, labels)
        assert list(data.get_gt_labels()) == labels
        assert data.metainfo['classes'] == ['a', 'b', 'c']
    for labels in ([0, 1, 3], [-1, 0, 1]):
        for name, value in dict(
            label_noise=0.5, shots=1, imbalance=2.0
        ).items():
            with pytest.raises(ValueError, match=f'{name}={value}'):
                labelled(tmp_path, labels, **{name: value})
    one = dict(metainfo=dict(classes=['a']), label_noise=0.5)
    with pytest.raises(ValueError, match='no other one'):
        labelled(tmp_path, [0, 0], **one)
    # A class without an image keeps its place in the tail.
    tail = labelled(tmp_path, [0] * 16 + [1] * 16, imbalance=16.0)
    assert np.bincount(tail.get_gt_labels()).tolist() == [16, 4]


@pytest.mark.parametrize(
    'options',
    [
        dict(shots='3'),
        dict(shots=1.5),
        dict(shots=True),
        dict(shots=0),
        dict(imbalance=float('nan')),
        dict(imbalance='9'),
        dict(imbalance=0.9),
        dict(label_noise=-0.1),
        dict(label_noise=None),
        dict(seed=-1),
        dict(seed='0'),
        dict(of=3),
    ],
)
def test_options_of_a_subset_are_checked(options, tmp_path):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f'dataset.{name}={value!r} must be'):
        labelled(tmp_path, [0, 1, 2], **options)
