"""Collapse of features and severity of mistakes, against definitions."""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import JUNK, close, options, smooth, whole

from u1_plugin import measure
from u1_plugin.lab.benchmark.severity import severity


@fuzz(
    'measure.CollapseAccumulator',
    features=smooth(st.integers(1, 12), st.integers(1, 5)),
    labels=st.lists(st.integers(-1, 4), min_size=12, max_size=12),
    case=options(dict(num_classes=whole(2, 4)), ('num_classes',)),
    kind=st.sampled_from([torch.int64, torch.int32, torch.float32]),
    bad=st.sampled_from([None] * 4 + [math.nan, math.inf]),
)
def test_collapse(features, labels, case, kind, bad):
    given, wrong = case
    found = attempt(lambda: measure.CollapseAccumulator(**given), wrong)
    if found is REFUSED:
        return
    classes = given['num_classes']
    labels = torch.tensor(labels[: len(features)])
    spoilt = {}
    if bad is not None:
        features[0, 0] = bad
        spoilt['features'] = features
    inside = 0 <= labels.min() and labels.max() < classes
    if kind == torch.float32 or not inside:
        spoilt['labels'] = labels
    taken = attempt(lambda: found.update(features, labels.to(kind)), spoilt)
    if taken is REFUSED:
        return
    own = [features[labels == c].double().numpy() for c in range(classes)]
    missing = [c for c, rows in enumerate(own) if not len(rows)]
    summary = attempt(found.summary, dict(image=missing) if missing else {})
    if summary is REFUSED:
        return
    assert summary.n == len(features)
    means = np.stack([rows.mean(0) for rows in own])
    variances = [rows.var(0).sum() for rows in own]
    first, second = np.triu_indices(classes, 1)
    apart = np.linalg.norm(means[first] - means[second], axis=1)
    if apart.min() > 1e-4:
        pairs = [variances[i] + variances[j] for i, j in zip(first, second)]
        wanted = np.mean(np.array(pairs) / (2 * apart**2))
        assert close(summary.cdnv, wanted, 1e-6)
    assert math.isnan(summary.nc1) or summary.nc1 >= 0
    lengths = [np.linalg.norm(rows, axis=1) for rows in own]
    if all((length > 1e-6).all() for length in lengths):
        units = [
            (rows / length[:, None]).mean(0)
            for rows, length in zip(own, lengths)
        ]
        total = 1 - np.square(np.mean(units, 0)).sum()
        within = 1 - np.mean([np.square(u).sum() for u in units])
        if total > 1e-6:
            assert close(summary.separation, 1 - within / total, 1e-6)


@fuzz(
    'lab.benchmark.severity',
    logits=smooth(st.integers(1, 9), 4).map(torch.Tensor.numpy),
    labels=st.lists(st.integers(0, 3), min_size=9, max_size=9),
    names=st.lists(
        st.sampled_from(['a.b', 'a.c', 'd.e', 'd.f', 'g', '.h', 'a.b.c'])
        | JUNK,
        min_size=3,
        max_size=5,
    ),
)
def test_severity(logits, labels, names):
    labels = np.array(labels[: len(logits)])
    texts = all(isinstance(name, str) for name in names)
    parts = [name.split('.') for name in names] if texts else []
    right = (
        len(parts) == 4
        and all(len(own) == 2 and all(own) for own in parts)
        and 1 < len({own[0] for own in parts}) < 4
    )
    found = attempt(
        lambda: severity(logits, labels, names),
        {} if right else dict(names=names, severity=names, classes=names),
    )
    if found is REFUSED:
        return
    predicted = logits.argmax(1)
    pairs = [(a, b) for a, b in zip(predicted, labels) if a != b]
    leaves = [parts[a][0] != parts[b][0] for a, b in pairs]
    share, height = found.values()
    wanted = np.mean(leaves) if pairs else math.nan
    assert close(share, 100 * wanted, 1e-9) or not pairs
    assert close(height, 1 + wanted, 1e-9) or not pairs
