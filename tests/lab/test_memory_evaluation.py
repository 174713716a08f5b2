"""The head votes what each cell of a grid says, and retrieval is as by hand."""

import numpy as np
import pytest
import torch
from helpers import images, memory_classifier
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmpretrain.structures import DataSample

from u1_plugin.lab.memory_evaluation import Grid, Metrics, evaluate
from u1_plugin.lab.memory_maps import LayerView, query_loader
from u1_plugin.memory import Kernel, VotingRule

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
    assert grid.rule(0.2) == VotingRule('position', 0.0, 0.2, kernel)
    assert Grid('both', [2.0], [1]).rule(2.0) == VotingRule('both', 2.0)
    assert str(grid) == 'plane position, kernel softmax, T 0.07, k 1 20'


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
