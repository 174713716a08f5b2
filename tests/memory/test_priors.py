"""Priors of the vote equal numbers computed by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.memory import PRIORS, PlaneCoordinates
from u1_plugin.memory.priors import log_prior

NAN, INF = float('nan'), float('inf')


def prior(*args, **options) -> torch.Tensor:
    """The weights themselves."""
    return log_prior(*args, **options).exp()


def point(x: float, y: float, hue: float = 0.0) -> PlaneCoordinates:
    """One place, ``(1, 1, 2)`` and ``(1, 1)``."""
    return PlaneCoordinates(torch.tensor([[[x, y]]]), torch.tensor([[hue]]))


def weight(
    one: PlaneCoordinates,
    two: PlaneCoordinates,
    plane: str,
    kappa=1.0,
    **options,
) -> float:
    found = prior(one, two, plane, kappa, **options)
    assert found.shape == (1, 1) and found.dtype == torch.float64
    # A weight is the same seen from either side.
    back = prior(two, one, plane, kappa, **options)
    torch.testing.assert_close(back, found, rtol=1e-12, atol=0)
    return found.item()


# cos - 1 of 0, 60, 90, 120 and 180 degrees is 0, -1/2, -1, -3/2 and -2.
ROOT = math.sqrt(3)
TURNS = [
    ((1.0, 0.0), (0.25, 0.0), 0.0),
    ((1.0, 0.0), (0.5, ROOT / 2), -0.5),
    ((0.5, ROOT / 2), (0.5, -ROOT / 2), -1.5),
    ((1.0, 0.0), (0.0, 0.5), -1.0),
    ((0.0, 0.5), (0.0, -0.125), -2.0),
    ((-0.5, -0.5), (0.25, 0.25), -2.0),
    ((-0.5, 0.5), (-0.25, -0.25), -1.0),
]


@pytest.mark.parametrize('plane', ['image', 'shuffled'])
@pytest.mark.parametrize('one, two, turn', TURNS)
def test_the_image_plane_is_turned_about_the_axis(plane, one, two, turn):
    one, two = point(*one, hue=0.3), point(*two, hue=2.0)
    for kappa in (0.5, 1.0, 3.0):
        expected = math.exp(kappa * turn)
        assert weight(one, two, plane, kappa) == pytest.approx(
            expected, rel=1e-6
        )
        # Of sigma nothing depends.
        assert weight(one, two, plane, kappa, sigma=9.0) == pytest.approx(
            expected, rel=1e-6
        )


def test_on_the_axis_the_angle_is_zero():
    axis = point(0.0, 0.0)
    assert weight(axis, axis, 'image', 5.0) == 1
    assert weight(axis, point(-0.0, -0.0), 'image', 5.0) == 1
    assert weight(axis, point(0.3, 0.0), 'image', 2.0) == 1
    assert weight(axis, point(-0.3, 0.0), 'image', 2.0) == math.exp(-4)
    assert weight(axis, point(0.0, 0.3), 'image', 2.0) == math.exp(-2)


@pytest.mark.parametrize(
    'one, two, turn',
    [
        (0.0, 0.0, 0.0),
        (0.0, math.pi / 3, -0.5),
        (math.pi / 2, 0.0, -1.0),
        (math.pi, -math.pi, 0.0),
        (3.0, -3.0, math.cos(6.0) - 1),
        (math.pi / 2, -math.pi / 2, -2.0),
    ],
)
def test_the_feature_plane_compares_hues(one, two, turn):
    for places in ((0.0, 0.0), (0.3, -0.4)):
        one_, two_ = point(0.7, 0.1, one), point(*places, two)
        for kappa in (0.5, 2.0):
            found = weight(one_, two_, 'feature', kappa)
            assert found == pytest.approx(math.exp(kappa * turn), rel=1e-6)


def test_both_planes_multiply():
    one, two = point(1.0, 0.0, 0.5), point(0.0, 0.5, 0.8)
    expected = math.exp(2 * (-1 + math.cos(0.3) - 1))
    assert weight(one, two, 'both', 2.0) == pytest.approx(expected, rel=1e-6)
    image, feature = (weight(one, two, p, 2.0) for p in ('image', 'feature'))
    assert weight(one, two, 'both', 2.0) == pytest.approx(image * feature)


@pytest.mark.parametrize('kappa', [0.0, 2.0, 100.0])
def test_the_position_kernel(kappa):
    """``exp(-|delta|^2 / 2 sigma^2)``, and of kappa nothing depends."""
    one, two = point(0.5, 0.25, 1.0), point(0.25, -0.25, -1.0)
    squared = 0.25**2 + 0.5**2  # 0.3125
    for sigma, expected in (
        (0.5, math.exp(-0.625)),
        (0.25, math.exp(-2.5)),
        (1.0, math.exp(-0.15625)),
    ):
        assert expected == pytest.approx(math.exp(-squared / (2 * sigma**2)))
        found = weight(one, two, 'position', kappa, sigma=sigma)
        assert found == pytest.approx(expected, rel=1e-12)
    assert weight(one, two, 'position', kappa) == pytest.approx(
        math.exp(-0.625), rel=1e-12
    )
    assert weight(one, one, 'position', kappa) == 1


@pytest.mark.parametrize('kappa', [0.0, 2.0, 100.0])
def test_the_radius_kernel(kappa):
    """The same of ``|r - r'|``, whatever the directions."""
    one, two = point(0.3, 0.4, 1.0), point(-0.25, 0.0, -1.0)  # 0.5 and 0.25
    for sigma, expected in ((0.5, math.exp(-0.125)), (0.25, math.exp(-0.5))):
        found = weight(one, two, 'radius', kappa, sigma=sigma)
        assert found == pytest.approx(expected, rel=1e-6)
    assert weight(one, two, 'radius', kappa) == pytest.approx(
        math.exp(-0.125), rel=1e-6
    )
    assert weight(point(0.5, 0.0), point(0.0, -0.5), 'radius', kappa) == 1
    far = weight(point(0.0, 0.0), point(0.6, 0.8), 'radius', kappa, sigma=0.5)
    assert far == pytest.approx(math.exp(-2), rel=1e-6)


@pytest.mark.parametrize('plane', ['image', 'feature', 'both', 'shuffled'])
def test_without_kappa_every_weight_is_one(plane):
    assert weight(point(1.0, 0.0, 3.0), point(0.0, 1.0, 1.0), plane, 0.0) == 1
    assert weight(point(1.0, 0.0, 3.0), point(0.0, 1.0, 1.0), plane, 0) == 1


def test_the_planes_are_these():
    assert PRIORS == (
        *('image', 'feature', 'both', 'position', 'radius', 'shuffled'),
    )


@given(
    st.sampled_from(PRIORS),
    st.floats(0, 1e308),
    st.floats(1e-300, 1e300),
    st.integers(0, 2**32 - 1),
)
def test_weights_are_no_more_than_one(plane, kappa, sigma, seed):
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(2, 5, 3, generator=generator) * 2 - 1
    one, two = (PlaneCoordinates(p[:, :2], p[:, 2]) for p in places)
    found = prior(one, two, plane, kappa, sigma)
    assert ((found >= 0) & (found <= 1)).all()
    assert (log_prior(one, two, plane, kappa, sigma) <= 0).all()
    assert (prior(one, one, plane, kappa, sigma) == 1).all()


def test_coordinates_broadcast():
    generator = torch.Generator().manual_seed(0)
    query = PlaneCoordinates(
        torch.rand(4, 1, 2, generator=generator),
        torch.rand(4, 1, generator=generator),
    )
    memory = PlaneCoordinates(
        torch.rand(4, 3, 2, generator=generator),
        torch.rand(4, 3, generator=generator),
    )
    for plane in PRIORS:
        found = prior(query, memory, plane, 2.0)
        assert found.shape == (4, 3)
        for q in range(4):
            for j in range(3):
                alone = prior(
                    PlaneCoordinates(*(f[q, 0] for f in query)),
                    PlaneCoordinates(*(f[q, j] for f in memory)),
                    plane,
                    2.0,
                )
                assert torch.equal(found[q, j], alone)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(plane='hue'), "plane='hue'"),
        (dict(plane=None), 'plane=None'),
        (dict(plane=''), "plane=''"),
        (dict(kappa=-1e-9), 'kappa=-1e-09'),
        (dict(kappa=NAN), 'kappa=nan'),
        (dict(kappa=INF), 'kappa=inf'),
        (dict(kappa=True), 'kappa=True'),
        (dict(kappa='1'), "kappa='1'"),
        (dict(sigma=0.0), 'sigma=0.0'),
        (dict(sigma=-0.5), 'sigma=-0.5'),
        (dict(sigma=NAN), 'sigma=nan'),
        (dict(sigma=INF), 'sigma=inf'),
        (dict(sigma=None), 'sigma=None'),
    ],
)
def test_bad_prior_options_are_refused(options, words):
    one = point(0.1, 0.2)
    for plane in PRIORS:
        with pytest.raises(ValueError) as caught:
            log_prior(one, one, **dict(plane=plane, kappa=1.0) | options)
        assert words in str(caught.value)
