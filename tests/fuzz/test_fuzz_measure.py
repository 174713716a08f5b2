"""Accumulators against all data at once, and what reads networks."""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from mmpretrain.structures import DataSample
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    ODD_TENSORS,
    SIZES,
    Kind,
    choice,
    close,
    number,
    optional,
    options,
    smooth,
    tensors,
    turned,
    whole,
)
from torch import nn

from u1_plugin import measure
from u1_plugin.geometry import ORTHANT_MAPS

SEVERAL = whole(2, 9)
MAPS = smooth(st.integers(1, 7), st.integers(2, 6), st.integers(2, 6))


def _parts(values: torch.Tensor, make) -> list:
    """Accumulators of two parts, and of the whole."""
    half = len(values) // 2
    found = []
    for part in (slice(None, half), slice(half, None), slice(None)):
        found.append(make())
        index = torch.arange(len(values))[part]
        found[-1].update(values[part], index)
    return found


@fuzz(
    'measure.EnergyAccumulator',
    maps=MAPS,
    case=options(dict(radial_bins=SEVERAL, groups=SEVERAL)),
    bad=st.sampled_from([None] * 4 + [math.nan, math.inf, 0.0]),
)
def test_energy(maps, case, bad):
    given, wrong = case
    made = attempt(lambda: measure.EnergyAccumulator(**given), wrong)
    if made is REFUSED:
        return
    energy = maps.square().double()
    if bad is not None:
        energy[0] = bad
    first, second, total = _parts(
        energy, lambda: measure.EnergyAccumulator(**given)
    )
    states = [part.state() for part in (first, second)]
    for name, value in total.state().items():
        assert close(states[0][name] + states[1][name], value, 1e-9)
    summary = attempt(
        total.summary,
        {'image': maps} if bad is not None and len(maps) < 2 else {},
    )
    if summary is REFUSED:
        return
    counted = energy[1:] if bad is not None else energy
    relative = counted / counted.mean((1, 2), keepdim=True)
    assert summary.n == len(counted)
    assert close(summary.mean_map, relative.mean(0), 1e-9)
    ring = summary.rings
    wanted = [
        summary.mean_map[ring.index == k].mean() for k in range(len(ring.edge))
    ]
    assert close(summary.profile, np.array(wanted), 1e-9)


@fuzz(
    'measure.AngleAccumulator',
    moments=smooth(st.integers(1, 9), 2),
    labels=st.lists(st.integers(-1, 4), min_size=9, max_size=9),
    case=options(dict(num_classes=whole(1, 5), bins=COUNT), ('num_classes',)),
    kind=st.sampled_from([torch.int64, torch.int32, torch.float32]),
)
def test_angles(moments, labels, case, kind):
    given, wrong = case
    found = attempt(lambda: measure.AngleAccumulator(**given), wrong)
    if found is REFUSED:
        return
    classes = given['num_classes']
    labels = torch.tensor(labels[: len(moments)])
    right = 0 <= labels.min() and labels.max() < classes
    whole_kind = kind != torch.float32
    taken = attempt(
        lambda: found.update(moments, labels.to(kind)),
        {} if right and whole_kind else dict(labels=labels),
    )
    if taken is REFUSED:
        return
    summary = attempt(found.summary)
    theta = np.arctan2(*moments.double().numpy().T[::-1])
    for label in range(classes):
        own = theta[labels.numpy() == label]
        assert summary.count[label] == len(own)
        if len(own):
            mean = np.exp(1j * own).mean()
            assert close(summary.length[label], abs(mean), 1e-9)
            assert abs(mean) < 1e-6 or turned(
                summary.mean[label], np.angle(mean)
            )
    assert summary.table.sum() == len(moments)


@fuzz('measure.VectorAccumulator', vectors=smooth(st.integers(1, 9), SIZES))
def test_vectors(vectors):
    found = measure.VectorAccumulator()
    attempt(lambda: found.update(vectors))
    unit = nn.functional.normalize(vectors.double(), dim=1)
    assert close(found.center(), unit.mean(0), 1e-9)
    right = min(vectors.shape) >= 3
    basis = attempt(
        found.pca_basis,
        {} if right else dict(vector=vectors, channels=vectors),
    )
    if basis is not REFUSED and len(vectors) > 3 and vectors.size(1) > 3:
        across = unit - unit.mean(1, keepdim=True)
        across = across - across.mean(0)
        most = np.linalg.svd(across.numpy())[1][:2]
        shown = np.linalg.norm(across.numpy() @ basis.T, axis=0)
        assert close(shown, most, 1e-6)


@fuzz(
    'measure accumulators: odd tensors',
    kind=st.sampled_from(['Energy', 'Angle', 'Vector']),
    tensor=ODD_TENSORS | tensors(2, 2, values=st.floats(width=32)),
)
def test_odd_tensors(kind, tensor):
    made = getattr(measure, f'{kind}Accumulator')
    found = made(3) if kind == 'Angle' else made()
    labels = torch.zeros(len(tensor) if tensor.ndim else 0).long()
    given = (tensor, labels) if kind == 'Angle' else (tensor,)
    attempt(
        lambda: found.update(*given),
        dict(energy=tensor, moments=tensor, vectors=tensor, map=tensor),
        either=True,
    )


@fuzz('measure.make_rings', height=SIZES, width=SIZES, bins=COUNT.right)
def test_rings(height, width, bins):
    found = attempt(lambda: measure.make_rings(height, width, bins))
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2)
    radius = radius / (np.hypot(height, width) / 2)
    assert found.pixels.sum() == height * width
    outer = found.edge[found.index]
    assert (radius <= outer + 1e-6).all()
    inner = outer - 1 / bins
    assert ((radius > inner - 1e-6) | (inner < 1e-9)).all()
    for k, mean in enumerate(found.radius):
        assert close(mean, radius[found.index == k].mean(), 1e-9)


@fuzz('measure.rotational_symmetry', maps=MAPS)
def test_symmetry_of_maps(maps):
    found = attempt(lambda: measure.rotational_symmetry(maps.double()))
    turns = (1, 2, 3) if maps.size(1) == maps.size(2) else (2,)
    for own, score in zip(maps.double().numpy(), found):
        turned_maps = [np.rot90(own, k).ravel() for k in turns]
        each = [np.corrcoef(own.ravel(), t)[0, 1] for t in turned_maps]
        assert close(score, np.mean(each), 1e-6)


@fuzz(
    'measure.concentration, symmetry, fit_sombrero',
    maps=smooth(st.integers(1, 7), 5, 5),
    case=options(dict(radius=number(0.1, 0.9, limit=1))),
)
def test_summaries(maps, case):
    found = measure.EnergyAccumulator()
    found.update(maps.square().double())
    summary = found.summary()
    given, wrong = case
    near = attempt(
        lambda: measure.concentration(summary, **given),
        wrong,
        either=isinstance(wrong.get('radius'), float),  # within 0..1
    )
    if near is not REFUSED:
        inside = (
            summary.rings.edge[summary.rings.index]
            <= max(float(given.get('radius', 0.5)), summary.rings.edge[0])
            + 1e-9
        )
        share = summary.mean_map[inside].sum() / summary.mean_map.sum()
        assert close(near.share, share, 1e-9)
        assert close(near.uniform, inside.mean(), 1e-9)
    turned_map = attempt(lambda: measure.symmetry(summary))
    assert math.isnan(turned_map.low) or turned_map.low <= turned_map.high
    fit = attempt(lambda: measure.fit_sombrero(summary))
    ring = summary.rings
    rows = np.stack([ring.fourth, -ring.square, np.ones(len(ring.edge))], 1)
    weight = np.sqrt(ring.pixels)
    wanted = np.linalg.lstsq(
        rows * weight[:, None], summary.profile * weight, rcond=None
    )[0]
    assert close(fit.coefficients, wanted, 1e-6)


@fuzz(
    'measure.class_labels',
    labels=st.lists(
        st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2),
        max_size=4,
    ),
)
def test_class_labels(labels):
    samples = [
        DataSample() if label is None else DataSample().set_gt_label(label)
        for label in labels
    ]
    flat = [label if isinstance(label, list) else [label] for label in labels]
    right = all(len(label) == 1 and None not in label for label in flat)
    found = attempt(
        lambda: measure.class_labels(samples),
        {} if right else dict(gt_label=labels),
    )
    if found is not REFUSED:
        assert found.tolist() == [label for (label,) in flat]


NETWORK = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Conv2d(4, 5, 2), nn.Flatten())
LAYERS = Kind(
    lambda v: isinstance(v, str) and v in ('0', '1', 'auto'),
    st.sampled_from(['0', '1']),
)
PROBE = dict(
    layers=LAYERS,
    plane=choice('feature', 'image', 'joint'),
    orthant=optional(choice(*ORTHANT_MAPS)),
    token_grid=optional(choice('1')),
)


@fuzz(
    'measure.Probe', share=0.5, case=options(PROBE), images=smooth(2, 3, 5, 5)
)
def test_probe(case, images):
    given, wrong = case
    names = [v for v in wrong.values() if v is None or isinstance(v, list)]
    probe = attempt(
        lambda: measure.Probe(NETWORK, **given), wrong, either=bool(names)
    )
    if probe is REFUSED:
        return
    probe.attach()
    maps = NETWORK[0](images)
    maps = NETWORK[1](maps) if given.get('layers') != '0' else maps
    NETWORK(images)
    (energy,) = probe.energies().values()
    probe.detach()
    rho = given.get('orthant') or 'relu'
    wide = maps.double()
    wanted = dict(
        relu=wide.relu(),
        abs=wide.abs(),
        softplus=nn.functional.softplus(wide),
        identity=wide,
    )[rho]
    assert close(energy, wanted.square().sum(1).detach())
