"""Ordered class angles: neighbours on the circle are similar classes."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.sparse import csgraph

from u1_plugin.nn import ClassAngles
from u1_plugin.nn.ordered import circular_order


def ordered(folder, content, classes, suffix='json', **options) -> ClassAngles:
    file = folder / f'classes.{suffix}'
    file.write_text(json.dumps(content))
    return ClassAngles(classes, 'ordered', file=str(file), **options)


def around(angles: torch.Tensor) -> list:
    """Classes in the order of their angles."""
    return angles.argsort().tolist()


def is_circle(order, expected) -> bool:
    """Whether two orders agree up to rotation and reflection."""
    order, expected = list(order), list(expected)
    start = order.index(expected[0])
    turned = order[start:] + order[:start]
    return expected in (turned, turned[:1] + turned[:0:-1])


def similarity(order, width: float = 1.0) -> list:
    """Of classes that lie on a circle in that order, evenly."""
    count = len(order)
    theta = torch.empty(count).double()
    theta[list(order)] = torch.arange(count).double() * 2 * math.pi / count
    gap = theta[:, None] - theta
    return ((gap.cos() - 1) / width**2).exp().tolist()


HIERARCHY = [
    ['animal', 'dog'],
    ['vehicle', 'car'],
    ['animal', 'cat'],
    ['plant', 'oak'],
    ['vehicle', 'bus'],
    ['animal', 'fox'],
    ['plant', 'rose'],
]


@pytest.mark.parametrize('suffix', ['json', 'yml'])
def test_siblings_are_neighbours(tmp_path, suffix):
    angles = ordered(tmp_path, dict(hierarchy=HIERARCHY), 7, suffix).angles
    expected = torch.arange(7) * 2 * math.pi / 7
    torch.testing.assert_close(angles.sort().values, expected)
    parents = [HIERARCHY[c][0] for c in around(angles)]
    changes = sum(a != b for a, b in zip(parents, parents[1:] + parents[:1]))
    assert changes == 3


def test_deep_hierarchies_are_walked_leaf_by_leaf():
    paths = [['b', 'y', '1'], ['a', 'x', '1'], ['b', 'x'], ['a', 'x', '0']]
    order = circular_order(dict(hierarchy=paths), 4, 'file')
    assert order.tolist() == [3, 1, 2, 0]
    # Classes of one path keep their order.
    order = circular_order(dict(hierarchy=[['a'], ['a'], ['a']]), 3, 'file')
    assert order.tolist() == [0, 1, 2]


@settings(max_examples=30)
@given(
    order=st.integers(4, 16).flatmap(lambda k: st.permutations(range(k))),
    width=st.floats(0.3, 3),
)
def test_similarity_gives_the_circle_back(order, width):
    found = circular_order(
        dict(similarity=similarity(order, width)), len(order), ''
    )
    assert is_circle(found.tolist(), order)


def test_similarity_need_not_be_symmetric(tmp_path):
    order = [2, 0, 4, 1, 5, 3]
    rows = torch.tensor(similarity(order))
    rows = rows + 0.01 * torch.triu(torch.ones(6, 6), 1)  # as confusions are
    rows.fill_diagonal_(100.0)
    angles = ordered(tmp_path, dict(similarity=rows.tolist()), 6).angles
    assert is_circle(around(angles), order)


def test_four_classes_have_three_circles():
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]):
        rows = dict(similarity=similarity(order))
        assert is_circle(circular_order(rows, 4, '').tolist(), order)


@pytest.mark.parametrize('scale', [1e-300, 1e-9, 1.7e308])
def test_the_scale_of_similarities_does_not_matter(scale):
    order = [2, 0, 4, 1, 5, 3]
    rows = torch.tensor(similarity(order)).double() * scale
    found = circular_order(dict(similarity=rows.tolist()), 6, '')
    assert is_circle(found.tolist(), order)


@pytest.mark.parametrize('seed', range(4))
def test_classes_are_sorted_in_the_plane_of_scipys_laplacian(seed):
    # Some have much more in common with all others: the degrees count.
    weights = np.random.default_rng(seed).uniform(0, 1, (9, 9)) ** 3
    weights[:3] *= 5
    found = circular_order(dict(similarity=weights.tolist()), 9, '').tolist()
    graph = csgraph.laplacian((weights + weights.T) * (1 - np.eye(9)))
    _, first, second = linalg.eigh(graph)[1].T[:3]
    assert is_circle(found, np.arctan2(second, first).argsort().tolist())


@pytest.mark.parametrize('seed', range(4))
def test_what_is_common_to_a_class_and_itself_does_not_matter(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(9, 9, generator=generator).double() ** 3
    found = []
    for own in (0.0, 1.0, 1e20):
        rows.fill_diagonal_(own)
        order = circular_order(dict(similarity=rows.tolist()), 9, '').tolist()
        found.append(order)
    assert found[0] == found[1] == found[2]


def changes_of(order: list, groups: list) -> int:
    """How often neighbours around the circle are of two groups."""
    walk = [groups[c] for c in order]
    return sum(a != b for a, b in zip(walk, walk[1:] + walk[:1]))


@pytest.mark.parametrize('across', [0.0, 1e-6, 0.1, 0.9])
@pytest.mark.parametrize('count, each', [(3, 3), (4, 5), (5, 4), (20, 5)])
def test_groups_stay_together_however_little_they_share(across, count, each):
    """The eigenvectors of equal groups are equal, and any mixture of them."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        groups = rng.permutation(np.repeat(range(count), each))
        rows = np.where(groups[:, None] == groups, 1.0, across)
        found = circular_order(dict(similarity=rows.tolist()), len(rows), '')
        assert sorted(found.tolist()) == list(range(len(rows)))
        assert changes_of(found.tolist(), groups.tolist()) == count


def test_groups_without_any_likeness_are_sorted_inside():
    chains, rows = [[2, 5, 7, 3], [1, 4, 0, 6], [8]], np.zeros((9, 9))
    for chain in chains:
        for a, b in zip(chain, chain[1:]):
            rows[a, b] = 1.0  # in one direction, as some confusions are
    found = circular_order(dict(similarity=rows.tolist()), 9, '').tolist()
    arcs = [found[:4], found[4:8], found[8:]]
    assert all(
        chain in (arc, arc[::-1])
        for chain, arc in zip([chains[1], chains[0], chains[2]], arcs)
    )


@pytest.mark.parametrize('rows', [np.zeros((5, 5)), np.eye(5)])
def test_classes_of_which_no_two_are_alike_have_no_order(rows):
    with pytest.raises(ValueError, match="where: `sim.*no two.*'uniform'"):
        circular_order(dict(similarity=rows.tolist()), 5, 'where')


def test_three_classes_have_one_circle(tmp_path):
    rows = [[1.0, 0.2, 0.9], [0.2, 1.0, 0.1], [0.9, 0.1, 1.0]]
    angles = ordered(tmp_path, dict(similarity=rows), 3).angles
    torch.testing.assert_close(angles, torch.arange(3) * 2 * math.pi / 3)


def test_the_first_winding_is_ordered_and_the_others_are_dealt(tmp_path):
    content = dict(hierarchy=HIERARCHY)
    one = ordered(tmp_path, content, 7).angles
    two = ordered(tmp_path, content, 7, windings=2).angles
    assert torch.equal(two[:, 0], one)
    assert not torch.equal(two[:, 1], one)
    assert torch.equal(two[:, 1].sort().values, one.sort().values)


@pytest.mark.parametrize(
    'content, words',
    [
        (dict(), ('either `similarity` or `hierarchy`', '[]')),
        (
            dict(similarity=[[1.0]], hierarchy=[['a']]),
            ("['hierarchy', 'similarity']",),
        ),
        (dict(hierarchy=[['a'], ['b']]), ('3 lists of names',)),
        (dict(hierarchy=[['a'], [], ['b']]), ('3 lists of names',)),
        (dict(hierarchy=['a', 'b', 'c']), ('3 lists of names',)),
        (dict(hierarchy=dict(a=1)), ('3 lists of names',)),
        (dict(similarity=[[1, 2], [3, 4]]), ('(2, 2)', '3 rows of 3')),
        (dict(similarity=[[1, 2], [3]]), ('no matrix of numbers',)),
        (dict(similarity=[['a'] * 3] * 3), ('no matrix of numbers',)),
        (dict(similarity=[[math.nan] * 3] * 3), ('finite numbers',)),
        (dict(similarity=[[1, 2, math.inf]] * 3), ('finite numbers',)),
        (dict(similarity=[[0.0, -1.0, 0.0]] * 3), ('negative', '>= 0')),
        ([1, 2, 3], ('mapping', 'list')),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, content, words):
    with pytest.raises(ValueError) as caught:
        ordered(tmp_path, content, 3)
    for word in ('class_angles.file=', 'classes.json', *words):
        assert word in str(caught.value)


def test_a_file_is_needed():
    with pytest.raises(ValueError, match="file=None.*mode='ordered'.*similari"):
        ClassAngles(3, 'ordered')
    with pytest.raises(ValueError, match='num_classes=None'):
        ClassAngles(mode='ordered', file='classes.json')
