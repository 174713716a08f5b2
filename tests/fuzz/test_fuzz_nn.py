"""The method's modules: options, targets, losses and branches."""

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    JUNK,
    NON_NEGATIVE,
    SEED,
    SHARE,
    SIZES,
    Kind,
    choice,
    close,
    number,
    of_one_layer,
    optional,
    options,
    smooth,
    whole,
)
from torch import nn

from u1_plugin.geometry import ORTHANT_MAPS
from u1_plugin.nn import (
    BottleneckAngleNeck,
    ClassAngles,
    ClassTarget,
    FeaturePlane,
    U1Branch,
    U1Loss,
    find_maps,
)

ANY = Kind(lambda v: True, JUNK)


def listed(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


WINDINGS = Kind(
    lambda v: (
        len(listed(v)) > 0
        and all(map(COUNT.is_right, listed(v)))
        and len(set(listed(v))) == len(listed(v))
    ),
    whole(1, 3).right | st.lists(st.integers(1, 3), min_size=1, unique=True),
)


@fuzz(
    'nn.ClassTarget',
    labels=st.lists(st.integers(-3, 6) | st.just(-100), min_size=1, max_size=6),
    dtype=st.sampled_from([torch.int64, torch.int32, torch.uint8]),
    classes=st.integers(1, 5),
    batch=st.integers(0, 1),
)
def test_labels(labels, dtype, classes, batch):
    target = ClassTarget(torch.tensor(labels).to(dtype))
    labels = target.values.long()
    counted = labels[labels != -100]
    right = not batch and bool(((counted >= 0) & (counted < classes)).all())
    size = len(labels) + batch
    angles = ClassAngles(classes)

    def follow():
        target.check(classes, size)
        return target.pull(angles.table(torch.zeros(1)))

    pull = attempt(follow, {} if right else dict(labels=labels, targets=labels))
    if pull is REFUSED:
        return
    for label, vector in zip(labels.tolist(), pull.vector):
        wanted = angles()[label] if label != -100 else torch.zeros(2)
        assert close(vector, wanted.detach())


LOSS = dict(
    mode=choice('cosine', 'von_mises', 'mse'),
    loss_weight=number(0, 50, limit=1e30),
    kappa=number(0, 50, open_low=True, limit=1e30),
    eps=number(1e-30, 50, limit=1e30),
    reduction=choice('none', 'mean', 'sum'),
    ignore_index=whole(-200, -100, 2**63 - 1)._replace(
        is_right=lambda v: (
            isinstance(v, (int, np.integer)) and not isinstance(v, bool)
        )
    ),
)


@fuzz(
    'nn.U1Loss',
    case=options(LOSS),
    moments=smooth(4, 2),
    scores=smooth(4, 3),
    soft=st.booleans(),
)
def test_loss(case, moments, scores, soft):
    given, wrong = case
    loss = attempt(lambda: U1Loss(**given), wrong)
    if loss is REFUSED:
        return
    angles = ClassAngles(3, seed=1)
    target = scores.softmax(1) if soft else scores.argmax(1)
    found = attempt(lambda: loss(moments, target, angles()))
    shares = target.double() if soft else nn.functional.one_hot(target, 3)
    z = moments.double()
    eps, kappa = float(given.get('eps', 1e-3)), float(given.get('kappa', 1))
    unit = z / (z.square().sum(1, keepdim=True) + eps**2).sqrt()
    points = torch.stack([angles.angles.cos(), angles.angles.sin()], 1).double()
    cosine = unit @ points.T
    norm = np.log(2 * np.pi * np.i0(kappa))
    each = dict(
        cosine=1 - cosine,
        von_mises=norm - kappa * cosine,
        mse=(unit[:, None] - points).square().sum(2),
    )[given.get('mode', 'cosine')]
    each = (each * shares).sum(1) * float(given.get('loss_weight', 0.1))
    reduction = given.get('reduction', 'mean')
    wanted = each if reduction == 'none' else getattr(each, reduction)()
    assert close(found, wanted, 1e-3)


PLANE = dict(
    in_channels=optional(whole(3, 6)),
    basis=choice('fourier', 'random', 'pca', 'learned'),
    center=choice('none', 'running', 'file'),
    file=Kind(
        lambda v: v is None or isinstance(v, str),
        st.sampled_from([None, 'no_such.npz']),
    ),
    seed=SEED,
    momentum=SHARE,
    windings=WINDINGS,
)


@fuzz('nn.FeaturePlane', case=options(PLANE), vectors=smooth(3, SIZES))
def test_feature_plane(case, vectors):
    given, wrong = case
    plane = attempt(
        lambda: FeaturePlane(**given),
        wrong,
        either=not wrong,  # options that need each other
        kinds=(FileNotFoundError,),
        also=given,
    )
    if plane is REFUSED:
        return
    assert given.get('basis') != 'pca' and given.get('center') != 'file'
    channels = given.get('in_channels')
    fits = channels in (None, vectors.size(1)) and vectors.size(1) >= 3
    windings = listed(given.get('windings', 1))
    fits = fits and 2 * max(windings) < vectors.size(1)
    names = dict(in_channels=vectors, channels=vectors, winding=vectors)
    plane.eval()
    found = attempt(lambda: plane(vectors), {} if fits else names)
    if found is REFUSED:
        return
    unit = nn.functional.normalize(vectors.double(), dim=1)
    wanted = unit @ plane.basis(vectors.double()).T
    assert close(found.detach().flatten(1), wanted.detach())


NECK = dict(
    layers=Kind(
        lambda v: isinstance(v, (str, int, np.integer)) and v in ('auto', -1),
        st.sampled_from(['auto', -1]),
    ),
    plane=choice('feature', 'image', 'joint'),
    of=choice('pooled', 'pixel'),
    flip=choice('ignore', 'follow'),
    windings=WINDINGS,
    in_channels=of_one_layer(whole(1, 9)._replace(right=st.integers(7, 9))),
    layer_weights=of_one_layer(NON_NEGATIVE),
    orthant=choice(*ORTHANT_MAPS),
)


@fuzz('nn.BottleneckAngleNeck', case=options(NECK), maps=smooth(2, 7, 3, 2))
def test_neck(case, maps):
    given, wrong = case
    if 'layers' in wrong and not isinstance(wrong['layers'], (dict, float)):
        return  # other positions and names are right for other networks
    neck = attempt(
        lambda: BottleneckAngleNeck(**given),
        wrong,
        either=not wrong,
        also=given,
    )
    if neck is REFUSED:
        return
    plane, of = given.get('plane', 'feature'), given.get('of', 'pooled')
    fits = listed(given.get('in_channels'))[0] in (None, 7)
    found = attempt(
        lambda: neck([maps]), {} if fits else dict(in_channels=given)
    )
    if found is REFUSED:
        return
    rho = given.get('orthant', 'relu')
    wide = maps.double()
    intensity = dict(
        relu=wide.relu(),
        abs=wide.abs(),
        softplus=nn.functional.softplus(wide),
        identity=wide,
    )[rho]
    energy = intensity.square().sum(1)
    windings = listed(given.get('windings', 1))
    assert len(found) == (2 if plane == 'joint' else 1)
    for moment in found:
        if moment.plane == 'image':
            value = moment.value.detach().view(len(maps), -1, 2)
            y, x = np.mgrid[:3, :2]
            phase = np.exp(1j * np.arctan2(1 - y, x - 0.5))
            for k, n in enumerate(windings):
                wanted = (energy.numpy() * phase**n).sum((1, 2))
                wanted = wanted / energy.sum((1, 2)).numpy()
                assert close(value[:, k, 0], wanted.real, 1e-3)
                assert close(value[:, k, 1], wanted.imag, 1e-3)
        elif of == 'pixel':
            assert close(moment.pixel_share.sum(1), np.ones(2))


NETWORK = nn.Sequential(
    nn.Conv2d(3, 7, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
)


@fuzz(
    'nn.U1Branch, find_maps',
    share=0.5,
    parts=st.dictionaries(
        st.sampled_from(['neck', 'class_angles', 'loss']),
        st.dictionaries(
            st.sampled_from(['plane', 'mode', 'kappa', 'type', 'layers']), JUNK
        )
        | JUNK,
        max_size=2,
    ),
    layers=st.sampled_from(['auto', '1', 1]) | JUNK,
    images=smooth(2, 3, 9, 9),
)
def test_branch(parts, layers, images):
    maps = attempt(
        lambda: find_maps(NETWORK, layers),
        dict(layers=layers),
        either=True,
    )
    named = isinstance(layers, str) and layers in ('auto', '1')
    assert not named or maps is not REFUSED
    branch = attempt(
        lambda: U1Branch(NETWORK, 4, **parts),
        {**{name: {} for name in parts}, **dict(u1=parts)},
        either=True,
        kinds=(TypeError, FileNotFoundError),
    )
    if branch is REFUSED:
        return
    with branch.reading():
        NETWORK(images)
    found = branch(torch.tensor([0, 3]))['loss_u1']
    branch.detach()
    assert found.isfinite() and not branch.sources == []
