"""A target says what share of each class an image has, and where it pulls."""

import math
from types import SimpleNamespace

import pytest
import torch
from class_points import K, points, pull_of
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.nn import ClassAngles, ClassTarget
from u1_plugin.nn.targets import (
    IGNORED,
    UNSMOOTHED,
    as_table,
    as_target,
    shares_of,
)

label = st.integers(0, K - 1)


@pytest.mark.parametrize('windings', [1, 2, 4])
@given(labels=st.lists(st.sampled_from([*range(K), IGNORED]), min_size=1))
def test_hard_labels(windings, labels):
    pull = pull_of(ClassTarget(torch.tensor(labels)), windings)
    for image, c in enumerate(labels):
        expected = torch.zeros(2) if c == IGNORED else points(windings)[c]
        expected = expected.double().expand_as(pull.vector[image])
        assert torch.equal(pull.vector[image], expected)
        assert pull.share[image] == (c != IGNORED)
    counted = sum(c != IGNORED for c in labels)
    assert pull.total == counted
    assert pull.count == max(counted, 1)


@pytest.mark.parametrize('windings', [1, 3])
def test_scores_pull_by_their_shares(windings):
    scores = torch.rand(4, K, generator=torch.Generator().manual_seed(0))
    scores[2] = 0
    pull = pull_of(ClassTarget(scores), windings)
    expected = torch.einsum('bk,k...->b...', scores.double(), points(windings))
    torch.testing.assert_close(pull.vector, expected)
    torch.testing.assert_close(pull.share, scores.double().sum(1))
    assert pull.count == 3


@given(images=st.lists(st.lists(label, max_size=4, unique=True), min_size=1))
def test_several_labels_pull_to_their_mean(images):
    target = ClassTarget.several([torch.tensor(own).long() for own in images])
    target.check(K, len(images))
    pull = pull_of(target)
    for image, own in enumerate(images):
        mean = points()[own].mean(0) if own else torch.zeros(2).double()
        torch.testing.assert_close(pull.vector[image], mean)
        assert pull.share[image] == bool(own)
    counted = sum(map(bool, images))
    assert pull.total == counted
    assert pull.count == max(counted, 1)


@given(
    images=st.lists(st.lists(label, max_size=4, unique=True), min_size=1),
    data=st.data(),
)
def test_the_order_of_images_and_labels_does_not_matter(images, data):
    def pull(images):
        own = [torch.tensor(labels).long() for labels in images]
        return pull_of(ClassTarget.several(own))

    order = data.draw(st.permutations(range(len(images))))
    shuffled = [data.draw(st.permutations(images[i])) for i in order]
    for a, b in zip(pull(shuffled)[:2], pull(images)[:2]):
        torch.testing.assert_close(a, b[list(order)])
    assert pull(shuffled)[2:] == pull(images)[2:]


def test_several_labels_may_be_ignored():
    ignored = [[1, IGNORED, 3], [IGNORED], [2]]
    kept = [[1, 3], [], [2]]
    pulls = [
        pull_of(
            ClassTarget.several([torch.tensor(own).long() for own in lists])
        )
        for lists in (ignored, kept)
    ]
    for a, b in zip(*pulls):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('dtype', [torch.int32, torch.uint8, torch.int16])
def test_labels_of_other_whole_types(dtype):
    labels = torch.tensor([0, 3, 4])
    found = pull_of(ClassTarget(labels.to(dtype)))
    for a, b in zip(found[:-1], pull_of(ClassTarget(labels))[:-1]):
        assert torch.equal(a, b)


@pytest.mark.parametrize('bad', [-1, K, K + 1, 99])
@pytest.mark.parametrize('several', [False, True])
def test_labels_out_of_range_stop_the_look_up(bad, several):
    labels = torch.tensor([0, bad, 1])
    target = ClassTarget(labels)
    if several:
        target = ClassTarget.several(list(labels.split(1)))
    low, high = min(bad, 0), max(bad, 1)
    for refuse in (pull_of, lambda target: target.check(K, 3)):
        with pytest.raises(ValueError, match=rf'labels {low}\.\.{high}.*=5'):
            refuse(target)


def test_what_is_no_target_is_refused():
    with pytest.raises(ValueError, match='shape.*labels'):
        as_target(torch.zeros(2, 3, 4))
    target = ClassTarget(torch.zeros(2).long())
    assert as_target(target) is target


@pytest.mark.parametrize('scale', [2.0**-140, 1e-38, 1e-20, 1.0, 1e38])
def test_scores_of_any_size_are_shared_out(scale):
    hot = torch.tensor([[1.0, 0, 3, 0, 0], [0] * 5, [0, 2, 2, 0, 0]])
    expected = [[0.25, 0, 0.75, 0, 0], [0] * 5, [0, 0.5, 0.5, 0, 0]]
    torch.testing.assert_close(
        shares_of(hot * scale), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )


def test_several_labels_are_whole_numbers():
    with pytest.raises(ValueError, match='float32.*whole numbers'):
        ClassTarget.several([torch.tensor([1]), torch.tensor([0.5, 2])])
    with pytest.raises(ValueError, match='bool.*whole numbers'):
        ClassTarget.several([torch.tensor([True, False])])
    with pytest.raises(ValueError, match=r'shape \(3,\).*\(B, K\)'):
        shares_of(torch.zeros(3))


def test_labels_and_images_belong_together():
    good = ClassTarget.several([torch.tensor([1, 2]), torch.tensor([3])])
    for bad in (
        good._replace(images=good.images[:2]),
        good._replace(values=torch.rand(3, K)),
        ClassTarget(torch.zeros(2, 3, K)),
    ):
        with pytest.raises(ValueError, match='shape'):
            bad.check(K, 2)


def test_a_table_of_another_smoothing_is_refused():
    target = ClassTarget(torch.arange(K), smoothing=(0.9, 0.1 / K))
    with pytest.raises(ValueError, match='table is for smoothing'):
        target.pull(as_table(points()))


def test_smoothed_scores_must_be_shares():
    scores = torch.rand(3, K)
    smoothing = (0.9, 0.1 / K)
    with pytest.raises(ValueError, match='sums are .*normalise'):
        ClassTarget(scores, smoothing=smoothing).check(K, 3)
    shares = scores / scores.sum(1, keepdim=True)
    target = ClassTarget(shares, smoothing=smoothing)
    target.check(K, 3)
    smoothed = 0.9 * shares.double() + 0.1 / K
    torch.testing.assert_close(pull_of(target).vector, smoothed @ points())


def test_how_far_sums_of_smoothed_scores_may_be_from_1():
    def check(*sums: float) -> None:
        rows = torch.eye(len(sums), K) * torch.tensor(sums)[:, None]
        smoothed = ClassTarget(rows.double(), smoothing=(0.9, 0.02))
        smoothed.check(K, len(sums))

    check(0.9995, 1.0005, 0.0)
    for wrong in (0.998, 1.002, 0.5, 2.0):
        with pytest.raises(ValueError, match='sums are .*normalise'):
            check(1.0, wrong)
    ClassTarget(2 * torch.eye(K)).check(K, K)  # any, if they are not smoothed


def test_one_score_that_is_none_is_enough():
    for bad, words in ((-0.25, 'down to -0.25'), (math.inf, 'not finite')):
        scores = torch.ones(2, K)
        scores[1, 3] = bad
        with pytest.raises(ValueError, match=words):
            ClassTarget(scores).check(K, 2)
    ClassTarget(torch.ones(0, K)).check(K, 0)


class OnGpu(torch.Tensor):
    """Says so, and is not."""

    is_cuda = True
    device = SimpleNamespace(type='cuda')


@pytest.mark.parametrize('bad', [-0.5, math.nan])
def test_a_gpu_is_waited_for_only_where_asked(bad):
    scores = torch.zeros(2, K).as_subclass(OnGpu)
    ClassTarget(scores).check(K, 2, wait=False)
    scores[1, 2] = bad
    with pytest.raises(RuntimeError, match='NaN or negative'):
        ClassTarget(scores).check(K, 2, wait=False)
    with pytest.raises(ValueError, match='negative|not finite'):
        ClassTarget(scores).check(K, 2)
    labels = ClassTarget(torch.tensor([0, K]).as_subclass(OnGpu))
    labels.check(K, 2, wait=False)  # the GPU stops at the look-up
    with pytest.raises(ValueError, match='labels 0..5'):
        labels.check(K, 2)


def test_labels_of_images_need_the_number_of_images():
    target = ClassTarget(torch.tensor([0, 1]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match='of 0 images, but the maps of 1;'):
        target.check(3, 1)
    target._replace(batch_size=1).check(3, 1)


def test_several_labels_of_no_images():
    target = ClassTarget.several([])
    target.check(3, 0)
    assert len(target.pull(ClassAngles(3).table(torch.zeros(1))).vector) == 0
    with pytest.raises(ValueError, match=r'labels\[1\] must be a tensor.* 3$'):
        ClassTarget.several([torch.tensor([1]), 3])


@pytest.mark.parametrize(
    'images, words',
    [
        ([0, 1], r'images must be a tensor of real numbers, not \[0, 1\]'),
        (torch.tensor([0.0, 1.0]), 'torch.float32'),
        (torch.tensor([0, 2]), r'images 0\.\.2 do not fit a batch of 2'),
        (torch.tensor([-1, 0]), r'images -1\.\.0 do not fit a batch of 2'),
    ],
    ids=str,
)
def test_images_of_labels_are_those_of_the_batch(images, words):
    target = ClassTarget(torch.tensor([0, 1]), images, 2)
    with pytest.raises(ValueError, match=words):
        target.check(3, 2)


def test_a_label_given_twice_is_one():
    # Ignored ones (5) are none, and do not stand for class 0.
    twice = [[5, 2, 0, 5, 2, 0, 0], [], [1, 1], [5]]
    once = [[2, 0], [], [1], [5]]
    table = as_table(ClassAngles(4, seed=1)(), UNSMOOTHED)
    found, wanted = (
        ClassTarget.several([torch.tensor(own) for own in lists]).pull(table, 5)
        for lists in (twice, once)
    )
    torch.testing.assert_close(found.vector, wanted.vector)
    assert torch.equal(found.share, wanted.share)


@pytest.mark.parametrize(
    'smoothing', [(-1.0, 0.0), (math.nan, 0.0), 0.1, [0.9, 0.01], (1.0,), None]
)
def test_a_smoothing_is_two_numbers(smoothing):
    target = ClassTarget(torch.tensor([0]), smoothing=smoothing)
    with pytest.raises(ValueError, match=r'smoothing=.*\(1 - s, s / K\)'):
        target.check(K, 1)


def test_mixed_points_are_in_float32_even_inside_autocast():
    table = as_table(points(1))
    scores = torch.rand(3, K)
    expected = ClassTarget(scores).pull(table).vector
    with torch.autocast('cpu', torch.bfloat16):
        found = ClassTarget(scores).pull(table).vector
    assert found.dtype == expected.dtype and torch.equal(found, expected)
