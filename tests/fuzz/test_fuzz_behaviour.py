"""What top-1 does not say of trained models, against definitions."""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    FINITE,
    JUNK,
    close,
    optional,
    options,
    smooth,
)
from torch import nn

from u1_plugin.lab.benchmark import behaviour

METRIC = 'accuracy/top1'
ENTRIES = st.fixed_dictionaries(
    {'epoch': st.integers(1, 99), METRIC: st.floats(0, 100)}
)


@fuzz(
    'lab.benchmark.behaviour.epochs_to',
    curve=st.lists(ENTRIES, max_size=5),
    case=options(dict(accuracy=FINITE), ('accuracy',)),
    spoilt=st.none() | JUNK,
    key=st.sampled_from(['epoch', METRIC]),
)
def test_epochs_to(curve, case, spoilt, key):
    given, wrong = case
    is_number = FINITE.is_right(spoilt)
    if curve and spoilt is not None:
        curve[-1][key] = spoilt
        if not is_number:
            wrong = dict(wrong, curve=curve)
    found = attempt(lambda: behaviour.epochs_to(curve, **given), wrong)
    if found is REFUSED:
        return
    # A float32 would compare as one.
    wanted = float(given['accuracy'])
    reached = [e['epoch'] for e in curve if e[METRIC] >= wanted]
    if reached:
        assert found == reached[0]
    elif curve:
        epochs = [0] + [entry['epoch'] for entry in curve]
        assert close(found, 2.0 * epochs[-1] - epochs[-2])
    else:
        assert math.isnan(found)


ODD = st.sampled_from(
    [
        *(np.zeros((0, 3)), np.ones(3), np.ones((2, 3), int), np.eye(2) * 1j),
        *(np.full((2, 3), np.nan), np.array([['a']]), np.full((2, 3), np.inf)),
    ]
)
LABELS = st.lists(st.integers(-1, 4), max_size=9).map(
    lambda labels: np.array(labels, int)
)


@fuzz(
    'lab.benchmark.behaviour.calibration_error, accuracy',
    logits=smooth(st.integers(1, 9), 4).map(lambda t: 3 * t.numpy()) | ODD,
    labels=LABELS | st.just(np.zeros(2)),
    same=st.sampled_from([True, True, True, False]),
    case=options(dict(bins=COUNT)),
)
def test_outputs(logits, labels, same, case):
    given, wrong = case
    if same and labels.dtype.kind == 'i' and logits.ndim == 2:
        labels = np.resize(labels, len(logits)) if len(labels) else labels
    right = (
        logits.ndim == 2
        and logits.size > 0
        and logits.dtype.kind == 'f'
        and np.isfinite(logits).all()
        and labels.dtype.kind == 'i'
        and labels.shape == logits.shape[:1]
        and 0 <= labels.min()
        and labels.max() < logits.shape[1]
    )
    spoilt = {} if right else dict(logits=logits, labels=labels)
    top = attempt(lambda: behaviour.accuracy(logits, labels), spoilt)
    found = attempt(
        lambda: behaviour.calibration_error(logits, labels, **given),
        {**wrong, **spoilt},
    )
    if not right:
        assert top is REFUSED
        return
    hits = logits.argmax(1) == labels
    assert close(top, 100 * hits.mean())
    if found is REFUSED:
        return
    shares = np.exp(logits - logits.max(1, keepdims=True).astype(float))
    sure = (shares / shares.sum(1, keepdims=True)).max(1)
    bins, wanted = given.get('bins', 15), 0.0
    for k in range(bins):
        own = (sure > k / bins) & (sure <= (k + 1) / bins)
        if own.any():
            wanted += abs(hits[own].mean() - sure[own].mean()) * own.mean()
    assert close(found, 100 * wanted)


def _signals(values: torch.Tensor, bad: float) -> behaviour.Signals:
    logits, rest = values[:, :3].numpy().copy(), values[:, 3:].abs().numpy()
    if bad is not None and len(logits):
        logits[0, 0] = bad
    return behaviour.Signals(logits, *rest.T)


@fuzz(
    'lab.benchmark.behaviour.detection',
    known=smooth(st.integers(0, 6), 5),
    unknown=smooth(st.integers(0, 6), 5),
    bad=st.sampled_from([None] * 4 + [math.nan, math.inf]),
)
def test_detection(known, unknown, bad):
    right = len(known) and len(unknown) and bad is None
    first, second = _signals(known, bad), _signals(unknown, None)
    found = attempt(
        lambda: behaviour.detection(first, second),
        {} if right else dict(known=known, unknown=unknown),
    )
    if found is REFUSED:
        return
    inside, outside = map(behaviour.detection_scores, (first, second))
    for name, value in found.items():
        pairs = np.sign(inside[name][:, None] - outside[name])
        assert close(value, 50 * (1 + pairs.mean()))


class _Model(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 2), nn.AvgPool2d(4), nn.Flatten())

    def data_preprocessor(self, data: dict) -> dict:
        return data


@fuzz(
    'lab.benchmark.behaviour.signals',
    share=0.5,
    images=smooth(st.integers(1, 5), 3, 5, 5),
    case=options(dict(layer=optional(COUNT))),
)
def test_signals(images, case):
    given, wrong = case
    if 'layer' not in wrong:
        given['layer'] = '0'
    either = wrong.get('layer', '') is None or 'layer' in wrong
    found = attempt(
        lambda: behaviour.signals(_Model(), images, **given),
        wrong,
        either=either,
    )
    if found is not REFUSED:
        assert len(found.logits) == len(found.angle) == len(images)
        assert (found.energy >= 0).all()
