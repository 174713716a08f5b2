"""Corrupted, scarce, unbalanced and mislabelled versions of a data set."""

import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image

import u1_plugin  # noqa: F401
from u1_plugin.lab.corrupt import CORRUPTIONS
from u1_plugin.lab.subsets import few_shots, long_tail, noisy_labels

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16, interpolation='bicubic'),
    dict(type='PackInputs'),
]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Twelve images of each of four classes."""
    root = tmp_path_factory.mktemp('images')
    draw = rng()
    for label in range(4):
        (root / str(label)).mkdir()
        for i in range(12):
            grey = draw.integers(0, 255, (20, 24), dtype=np.uint8)
            Image.fromarray(grey).save(root / str(label) / f'{i:02d}.png')
    return root


def build(folder, **options):
    fields = dict(type='CustomDataset', data_root=str(folder), data_prefix='')
    return DATASETS.build(ConfigDict(fields, pipeline=PIPELINE, **options))


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


def corrupted(name: str, severity: int, shape=(40, 48), number=0, **options):
    image = np.random.default_rng(1).integers(60, 200, (*shape, 3))
    transform = TRANSFORMS.build(
        dict(type='Corrupt', name=name, severity=severity, **options)
    )
    image = image.astype(np.uint8)
    results = transform(dict(img=image.copy(), sample_idx=number))
    return results['img'], image


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_every_corruption_repeats_itself(name):
    np.random.seed(5)
    first, image = corrupted(name, 3)
    after = np.random.rand()
    np.random.seed(6)
    second, _ = corrupted(name, 3)
    assert np.array_equal(first, second) and not np.array_equal(first, image)
    assert first.dtype == np.uint8 and first.shape == image.shape
    # The global generator goes on as if nothing had been drawn.
    np.random.seed(5)
    assert np.random.rand() == after


def test_noise_grows_with_severity_and_differs_between_images():
    by_severity = [corrupted('gaussian_noise', s) for s in (1, 3, 5)]
    error = [np.std(a.astype(float) - b) for a, b in by_severity]
    assert error[0] < error[1] < error[2]
    # ImageNet-C's standard deviation at severity 1, but for clipping.
    assert error[0] == pytest.approx(0.08 * 255, rel=0.1)
    one, other = (corrupted('fog', 3, number=n)[0] for n in (0, 1))
    assert not np.array_equal(one, other)


def test_channels_keep_their_order():
    grey = np.zeros((32, 32, 3), np.uint8)
    grey[..., 0] = 200  # blue
    step = TRANSFORMS.build(dict(type='Corrupt', name='contrast', severity=1))
    found = step(dict(img=grey, sample_idx=0))['img']
    assert found[..., 0].min() > found[..., 2].max()


def test_small_images_keep_their_size():
    found, image = corrupted('brightness', 2, shape=(8, 12))
    assert found.shape == image.shape
    # ImageNet-C adds 0.2 to the value of HSV, whatever the size.
    gain = found.max(-1).mean() - image.max(-1).mean()
    assert gain == pytest.approx(0.2 * 255, abs=12)


def test_four_options_corrupt_an_existing_config(root, folder):
    config = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    )
    config.test_dataloader.dataset.update(data_root=str(folder), data_prefix='')
    plain = DATASETS.build(config.test_dataloader.dataset)[0]['inputs']
    at = 'test_dataloader.dataset.pipeline.1.'
    config.merge_from_dict(
        {
            f'{at}type': 'Corrupt',
            f'{at}after': 'Resize',
            f'{at}name': 'gaussian_noise',
            f'{at}severity': 5,
        }
    )
    noisy = DATASETS.build(config.test_dataloader.dataset)[0]['inputs']
    assert noisy.shape == plain.shape == (3, 16, 16)
    assert (noisy.float() - plain.float()).abs().mean() > 10


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(name='rain', severity=1), "name='rain'"),
        (dict(name='fog', severity=6), 'severity=6'),
        (dict(name='fog', severity=1, min_size=16), 'min_size=16'),
        (dict(name='fog', severity=1, scale=16), "'scale'"),
        (dict(name='fog', severity=1, after=''), "Corrupt.after=''"),
        (dict(name='fog', severity=1, after='0'), "Corrupt.after='0'"),
        (dict(name='fog', severity=1, after=int), 'Corrupt.after=.*int'),
        (dict(name='fog', severity=1, after='Resize'), "after='Resize'"),
    ],
)
def test_corrupt_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='Corrupt', **options))


def test_corrupt_wants_pixels_not_numbers():
    step = TRANSFORMS.build(dict(type='Corrupt', name='fog', severity=1))
    with pytest.raises(ValueError, match='before any normalisation'):
        step(dict(img=np.zeros((32, 32, 3), np.float32)))


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
