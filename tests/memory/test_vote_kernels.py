"""Kernels by name, and the one vote of the head and of the tools."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from votes import shares_of

from u1_plugin.memory import (
    KERNELS,
    PRIORS,
    ExactSearch,
    Kernel,
    LabelledNeighbours,
    Memory,
    MemoryBank,
    Pixels,
    PlaneCoordinates,
    PriorBias,
    Queries,
    VotingRule,
    class_shares,
    kernel_of,
)
from u1_plugin.memory.priors import log_prior

NAN, INF = float('nan'), float('inf')
LABELS = torch.tensor([[0, 2], [2, 2], [1, 0]])
IMAGES = torch.tensor([0, 0, 1])
DISTANCES = torch.tensor([[0.0, 0.5], [1.0, 0.25], [2.0, INF]]).double()


def by_hand(weight) -> list:
    """Sums of a kernel's weights by image and class."""
    sums = [[0.0] * 3, [0.0] * 3]
    for row in range(3):
        for column in range(2):
            distance = float(DISTANCES[row, column])
            if distance < INF:
                label = int(LABELS[row, column])
                sums[int(IMAGES[row])][label] += weight(distance)
    return sums


CASES = [
    (dict(), lambda d: 1.0),
    (dict(kernel='uniform'), lambda d: 1.0),
    (dict(width=0.4), lambda d: math.exp(-(d**2) / (2 * 0.4**2))),
    (
        dict(kernel='gaussian', width=0.4),
        lambda d: math.exp(-(d**2) / (2 * 0.4**2)),
    ),
    (dict(temperature=0.07), lambda d: math.exp((1 - d) / 0.07)),
    (
        dict(kernel='softmax', temperature=2),
        lambda d: math.exp((1 - d) / 2),
    ),
]


@pytest.mark.parametrize('options, weight', CASES)
def test_neighbours_weigh_by_their_kernel(options, weight):
    wanted = torch.tensor(by_hand(weight), dtype=torch.float64)
    kernel = kernel_of(**options)
    shares = shares_of(DISTANCES, LABELS, IMAGES, 3, 2, kernel)
    wanted = wanted / wanted.sum(1, keepdim=True)
    torch.testing.assert_close(shares, wanted, rtol=1e-12, atol=1e-15)


@given(
    st.sampled_from(['gaussian', 'softmax']),
    st.floats(1e-3, 1e3),
    st.lists(st.floats(0, 2), min_size=2, max_size=8),
)
def test_a_kernel_falls_with_the_distance(name, scale, distances):
    logs = Kernel(name, scale).log(torch.tensor(distances).double())
    assert (logs <= 0).all()
    order = torch.tensor(distances).double().argsort(stable=True)
    assert (logs[order].diff() <= 0).all()
    assert Kernel(name, scale).log(torch.zeros(1)).item() == 0
    assert Kernel(name, scale).log(torch.tensor([INF])).item() == -INF


@given(st.floats(1e-3, 50), st.integers(0, 99))
def test_a_softmax_kernel_is_the_softmax_of_the_cosines(temperature, seed):
    """Of one image, whose neighbours all have classes of their own."""
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(1, 6, generator=generator).double() * 2 - 1
    one = torch.arange(6)[None], torch.zeros(1).long(), 6, 1
    shares = shares_of(1 - cosines, *one, Kernel('softmax', temperature))
    wanted = (cosines / temperature).softmax(1)
    torch.testing.assert_close(shares, wanted, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize('temperature', [1e-3, 1e-30, 1e-300])
def test_temperatures_may_be_extreme_in_shares(temperature):
    given = DISTANCES, LABELS, IMAGES, 3, 2
    shares = shares_of(*given, Kernel('softmax', temperature))
    wanted = torch.tensor([[1, 0, 0], [0, 1, 0]]).double()
    torch.testing.assert_close(shares, wanted, rtol=0, atol=1e-100)
    great = shares_of(*given, Kernel('softmax', 1e300))
    torch.testing.assert_close(great, shares_of(*given))


def test_names_and_options_of_a_kernel():
    assert list(KERNELS) == ['uniform', 'gaussian', 'softmax']
    assert kernel_of() == kernel_of('uniform') == Kernel('uniform')
    assert kernel_of(width=2) == kernel_of('gaussian', 2) == ('gaussian', 2.0)
    assert kernel_of(temperature=0.07) == Kernel('softmax', 0.07)
    texts = ['kernel uniform', 'kernel gaussian, h 2', 'kernel softmax, T 0.07']
    chosen = [kernel_of(), kernel_of(width=2), kernel_of(temperature=0.07)]
    assert [str(kernel) for kernel in chosen] == texts
    options = [{}, dict(width=2.0), dict(temperature=0.07)]
    assert [kernel.options for kernel in chosen] == options
    assert [kernel_of(**kernel.options) for kernel in chosen] == chosen


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(kernel='box'), "kernel='box'"),
        (dict(kernel=3), 'kernel=3'),
        (dict(kernel=Kernel()), 'kernel=Kernel('),
        (dict(width=0), 'width=0'),
        (dict(width=0.0), 'width=0.0'),
        (dict(width=-1.0), 'width=-1.0'),
        (dict(width=NAN), 'width=nan'),
        (dict(width=INF), 'width=inf'),
        (dict(width=True), 'width=True'),
        (dict(width='1'), "width='1'"),
        (dict(temperature=0), 'temperature=0 must be'),
        (dict(temperature=-0.07), 'temperature=-0.07'),
        (dict(temperature=NAN), 'temperature=nan'),
        (dict(temperature=INF), 'temperature=inf'),
        (dict(temperature='1'), "temperature='1'"),
        (dict(temperature=True), 'temperature=True'),
        (dict(kernel='uniform', width=1.0), 'width=1.0 is not read by'),
        (dict(kernel='uniform', temperature=1.0), 'temperature=1.0 is not re'),
        (dict(kernel='softmax', width=1.0), "take kernel='gaussian'"),
        (dict(kernel='gaussian', temperature=1.0), "take kernel='softmax'"),
        (
            dict(kernel='softmax', temperature=0.1, width=1.0),
            "width=1.0 is not read by kernel='softmax'",
        ),
        (dict(width=1.0, temperature=0.1), 'temperature=0.1 is not read by'),
        (dict(kernel='gaussian'), "width=None, but kernel='gaussian' needs it"),
        (dict(kernel='softmax'), "temperature=None, but kernel='softmax' nee"),
    ],
)
def test_options_that_no_kernel_reads_are_refused(options, words):
    with pytest.raises(ValueError) as caught:
        kernel_of(**options)
    assert words in str(caught.value)
    if set(options) <= {'width', 'temperature'} and len(options) > 1:
        with pytest.raises(ValueError, match='head.temperature=0.1'):
            kernel_of(**options, name='head.')


def test_distances_beyond_cosines_are_refused():
    far = torch.tensor([[2.5]])
    one = torch.zeros(1, 1).long(), torch.zeros(1).long(), 1, 1
    with pytest.raises(ValueError, match="2.5, but kernel='softmax' takes"):
        shares_of(far, *one, Kernel('softmax', 0.1))
    assert shares_of(far, *one, Kernel('gaussian', 1.0)).item() == 1
    rounded = torch.tensor([[2 + 1e-7]])
    assert shares_of(rounded, *one, Kernel('softmax', 0.1)).item() == 1


def pixels_of(count: int, seed: int) -> Pixels:
    generator = torch.Generator().manual_seed(seed)
    return Pixels(
        torch.rand(count, 6, generator=generator),
        torch.arange(count) % 3,
        torch.arange(count) // 4,
        torch.rand(count, 2, generator=generator) * 1.4 - 0.7,
        torch.rand(count, generator=generator) * 6 - 3,
    )


def matches_of(asked: Pixels, bank: MemoryBank, k: int) -> LabelledNeighbours:
    queries = Queries(asked.vectors, asked.positions, asked.hues)
    return Memory(bank).search(queries, k)


@pytest.mark.parametrize('plane', PRIORS)
@pytest.mark.parametrize(
    'kernel', [Kernel(), Kernel('gaussian', 0.2), Kernel('softmax', 0.1)]
)
def test_shares_of_a_rule_are_those_of_its_parts(plane, kernel):
    """Weights, kernel and sums, of the first k of more neighbours."""
    bank, asked = MemoryBank(), pixels_of(12, seed=5)
    bank.append(pixels_of(60, seed=1))
    rule = VotingRule(plane, kappa=2.0, sigma=0.3, kernel=kernel)
    found = matches_of(asked, bank, 9)
    shares = class_shares(found, asked, 3, 3, rule, k=4)
    own = PlaneCoordinates(asked.positions[:, None], asked.hues[:, None])
    near = PlaneCoordinates(found.positions[:, :4], found.hues[:, :4])
    weights = log_prior(own, near, plane, 2.0, 0.3).exp()
    weights = weights * kernel.log(found.distances[:, :4]).exp()
    cells = asked.images[:, None] * 3 + found.labels[:, :4]
    votes = torch.bincount(cells.flatten(), weights.flatten(), 9).view(3, 3)
    wanted = votes / votes.sum(1, keepdim=True)
    torch.testing.assert_close(shares, wanted, rtol=1e-12, atol=0)
    fewer = class_shares(matches_of(asked, bank, 4), asked, 3, 3, rule)
    assert torch.equal(fewer, shares)
    place = 'sigma 0.3' if plane in ('position', 'radius') else 'kappa 2'
    assert str(rule) == f'{kernel}, plane {plane}, {place}'


def test_the_plain_rule_counts_neighbours():
    bank, asked = MemoryBank(), pixels_of(4, seed=5)
    bank.append(pixels_of(60, seed=1))
    found = matches_of(asked, bank, 5)
    shares = class_shares(found, asked, 3, 1)
    wanted = torch.bincount(found.labels.flatten(), minlength=3) / 20
    torch.testing.assert_close(shares[0], wanted.double())


def test_a_softmax_kernel_may_enter_the_search():
    """The k greatest of all votes, for queries at places of their own."""
    own, asked = pixels_of(120, seed=1), pixels_of(8, seed=5)
    bank = MemoryBank()
    bank.append(own)
    coordinates = [
        PlaneCoordinates(part.positions, part.hues) for part in (asked, own)
    ]
    bias = PriorBias(*coordinates, 'image', 3.0, 0.5, temperature=0.2)
    search = ExactSearch(bank, chunk=16, block=32)
    found = search.search(asked.vectors, 6, bias)
    units = [
        torch.nn.functional.normalize(p.vectors.double(), dim=1)
        for p in (asked, own)
    ]
    place = log_prior(
        PlaneCoordinates(asked.positions[:, None], asked.hues[:, None]),
        PlaneCoordinates(own.positions[None], own.hues[None]),
        *('image', 3.0),
    )
    votes = (units[0] @ units[1].T / 0.2 + place).exp()
    assert torch.equal(found.indices, votes.topk(6, dim=1).indices)
    plain = search.search(asked.vectors, 6)
    assert not torch.equal(plain.indices, found.indices)
    with pytest.raises(ValueError, match="metric='l2' has no cosine"):
        ExactSearch(bank, 'l2').search(asked.vectors, 6, bias)


@pytest.mark.parametrize(
    'kernel, words',
    [
        (Kernel('gauss', 0.05), r"Kernel\.name='gauss' must be one of"),
        (Kernel('Gaussian', 0.05), r"Kernel\.name='Gaussian'"),
        (Kernel('softmax', -0.05), r'Kernel\.scale=-0\.05 .*a number > 0'),
        (Kernel('gaussian', NAN), r'Kernel\.scale=nan'),
        (Kernel('gaussian', 0.0), r'Kernel\.scale=0\.0'),
        (Kernel('gaussian'), r'Kernel\.scale=None'),
        (Kernel('uniform', 0.05), r'Kernel\.scale=0\.05 .*must be None'),
    ],
)
def test_a_kernel_made_by_hand_is_checked(kernel, words):
    with pytest.raises(ValueError, match=words):
        shares_of(DISTANCES, LABELS, IMAGES, 3, 2, kernel)
    with pytest.raises(ValueError, match=words):
        kernel.log(DISTANCES)
