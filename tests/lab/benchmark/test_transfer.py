"""Frozen features on another data set, against definitions."""

import numpy as np
import pytest
import torch
from helpers import build, plain_config
from sklearn.linear_model import LogisticRegression

from u1_plugin.geometry import (
    energy,
    fourier_basis,
    image_moment,
)
from u1_plugin.lab.benchmark import behaviour
from u1_plugin.lab.benchmark.behaviour_features import (
    collapse_values,
    features,
)
from u1_plugin.lab.benchmark.evaluated_images import LabelledImages, Splits
from u1_plugin.lab.benchmark.transfer import (
    STRENGTHS,
    Vectors,
    linear_probe,
    transfer,
)
from u1_plugin.measure import (
    AngleAccumulator,
    CollapseAccumulator,
    class_dependence,
)

CLASSES = 3


def pictures(seed: int, each: int) -> LabelledImages:
    """Noise about a colour of each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), each)
    colours = np.array([[190, 80, 100], [90, 180, 100], [100, 90, 170]])
    noise = rng.normal(0, 60, (len(labels), 3, 32, 32))
    shift = rng.normal(0, 50, (len(labels), 3, 1, 1))
    values = colours[labels][:, :, None, None] + noise + shift
    whole = values.clip(0, 255).astype(np.uint8)
    return LabelledImages(torch.from_numpy(whole), labels)


@pytest.fixture(scope='module')
def model():
    head = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=128)
    return build(plain_config(head)).eval()


@pytest.fixture(scope='module')
def splits():
    return Splits(pictures(0, 20), pictures(1, 6), pictures(2, 10))


def maps_of(model, images: LabelledImages) -> torch.Tensor:
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=images.inputs))
        return model.backbone(data['inputs'])[-1]


def nearest_vote(memory, labels, queries) -> np.ndarray:
    """Classes by count among the 10 nearest by cosine, ``(Q, K)``."""
    memory, queries = (
        v / v.norm(dim=1, keepdim=True)
        for v in (memory.double(), queries.double())
    )
    near = (queries @ memory.T).topk(10, dim=1).indices.numpy()
    return np.stack([(labels[near] == c).sum(1) for c in range(CLASSES)], 1)


def test_memories_vote_by_their_definition(model, splits):
    found, _ = transfer(model, splits)
    train, test = maps_of(model, splits.train), maps_of(model, splits.test)
    own, wanted = splits.train.labels, splits.test.labels
    votes = nearest_vote(train.mean((2, 3)), own, test.mean((2, 3)))
    right = 100 * (votes.argmax(1) == wanted).mean()
    assert found['memory of pooled vectors'] == pytest.approx(right)
    pixels = [m.flatten(2).transpose(1, 2).flatten(0, 1) for m in (train, test)]
    each = train[0, 0].numel()
    votes = nearest_vote(pixels[0], own.repeat(each), pixels[1])
    votes = votes.reshape(len(wanted), each, CLASSES).sum(1)
    right = 100 * (votes.argmax(1) == wanted).mean()
    assert found['memory of pixels'] == pytest.approx(right)
    assert set(found) == {
        *('memory of pooled vectors', 'memory of pixels', 'linear probe')
    }
    assert all(100 / CLASSES < value <= 100 for value in found.values())


def test_probe_is_that_of_pooled_features(model, splits):
    found, strength = transfer(model, splits)
    parts = [
        Vectors(maps_of(model, s).mean((2, 3)).double().numpy(), s.labels)
        for s in splits
    ]
    assert (found['linear probe'], strength) == linear_probe(*parts)


def vectors(seed: int, count: int, spread: float) -> Vectors:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    means = np.random.default_rng(9).normal(size=(CLASSES, 12))
    noise = spread * rng.normal(size=(count, 12))
    # Features of any scale and offset: they are standardised.
    scale = np.geomspace(1e-3, 1e3, 12)
    return Vectors((means[labels] + noise + 7) * scale, labels)


@pytest.mark.parametrize('spread', [0.5, 2.0, 8.0])
def test_probe_chooses_on_the_validation_split(spread):
    parts = [vectors(s, n, spread) for s, n in enumerate((60, 45, 90))]
    found = linear_probe(*parts)
    mean, sd = parts[0].vectors.mean(0), parts[0].vectors.std(0)
    train, val, test = ((p.vectors - mean) / sd for p in parts)
    scores = []
    for c in STRENGTHS:
        fitted = LogisticRegression(C=c, max_iter=5000)
        fitted.fit(train, parts[0].labels)
        scores.append(
            (
                fitted.score(val, parts[1].labels),
                fitted.score(test, parts[2].labels),
            )
        )
    best = max(range(len(STRENGTHS)), key=lambda i: (scores[i][0], -i))
    assert found.strength == STRENGTHS[best]
    assert found.top1 == pytest.approx(100 * scores[best][1])


def test_one_class_cannot_be_probed():
    alone = vectors(0, 9, 1.0)._replace(labels=np.zeros(9, int))
    with pytest.raises(ValueError, match='class'):
        linear_probe(alone, alone, alone)


def test_collapse_is_that_of_what_the_classifier_takes(model, splits):
    images = splits.train
    found = collapse_values(model, images)
    maps = maps_of(model, images)
    collapse = CollapseAccumulator(CLASSES)
    labels = torch.from_numpy(images.labels)
    collapse.update(maps.mean((2, 3)), labels)
    wanted = collapse.summary()
    assert found['NC1 (x 100)'] == pytest.approx(100 * wanted.nc1, rel=1e-3)
    assert found['CDNV (x 100)'] == pytest.approx(100 * wanted.cdnv, rel=1e-4)
    separation = found['class separation R2 (x 100)']
    assert separation == pytest.approx(100 * wanted.separation, rel=1e-4)
    pooled = maps.mean((2, 3)).double()
    unit = pooled / pooled.norm(dim=1, keepdim=True)
    basis = fourier_basis(pooled.size(1), torch.float64)
    planes = {
        'feature plane': (unit - unit.mean(0)) @ basis.T,
        'image plane': image_moment(energy(maps.double())),
    }
    for plane, moments in planes.items():
        angles = AngleAccumulator(CLASSES)
        angles.update(moments, labels)
        share = class_dependence(angles.summary().table).information_share
        value = found[f'information of angle on class, {plane}, %']
        # The null has fewer draws.
        assert value == pytest.approx(100 * share.value, abs=2)


def test_batches_do_not_matter(model, splits, monkeypatch):
    images = splits.test.inputs
    whole = next(features(model, images))
    early = next(features(model, images, 'backbone.layer1'))
    monkeypatch.setattr(behaviour, 'BATCH', 7)
    parts = list(features(model, images))
    assert [len(p.vectors) for p in parts] == [7, 7, 7, 7, 2]
    for name in whole._fields:
        joined = torch.cat([getattr(p, name) for p in parts])
        assert torch.allclose(joined, getattr(whole, name), atol=1e-5)
    assert early.maps.shape[1:] == (16, 32, 32)
    assert torch.equal(early.vectors, whole.vectors)


def test_networks_without_pooled_features(splits):
    config = plain_config(dict(type='ClsHead'))
    config.pop('neck')
    flat = build(config).eval()
    with pytest.raises(ValueError, match='ClsHead gives no pooled vector'):
        next(features(flat, splits.test.inputs))
    config.pop('head')
    with pytest.raises(ValueError, match='ImageClassifier gives no features'):
        next(features(build(config).eval(), splits.test.inputs))


def test_every_class_needs_images(model, splits):
    images = splits.test
    some = images.labels != 2
    few = LabelledImages(
        images.inputs[torch.from_numpy(some)], images.labels[some]
    )
    with pytest.raises(ValueError, match='1 of them have no image, class 2'):
        collapse_values(model, few)
