"""Arms of the study, their choices, and differences between them."""

import numpy as np
import pytest
import torch
from planted_maps import planted

from u1_plugin.lab import memory_study as study
from u1_plugin.lab.folds import Split
from u1_plugin.memory import LabelledNeighbours


def test_summary_counts_gains_and_losses():
    plain = np.array([True, True, False, False] * 5)
    better = np.array([True, False, True, True] * 5)
    splits = [
        Split(np.arange(20) + 20 * k, dict(pixel=plain, image=image), {})
        for k, image in enumerate((better, better, plain))
    ]
    summary = study.summarise(splits)
    assert summary['pixel'] == dict(accuracy=[50.0] * 3)
    row = summary['image']
    assert row['accuracy'] == [75.0, 75.0, 50.0]
    found = row['difference']
    assert found['mean'] == pytest.approx(50 / 3) and found['n'] == 60
    assert (found['gained'], found['lost']) == (20, 10)
    # Twice the binomial tail of 20 or more heads in 30 tosses.
    assert found['pvalue'] == pytest.approx(0.0987, abs=1e-4)


def test_what_the_angle_has_beyond_each_control():
    right = dict.fromkeys(('image', *study.CONTROLS), np.array([True] * 4))
    right['position'] = np.array([True, False, True, True])
    right['shuffled'] = np.array([False] * 4)
    beyond = study.beyond_controls([Split(np.arange(4), right, {})])
    assert list(beyond) == ['position', 'radius', 'shuffled']
    means = [found['mean'] for found in beyond.values()]
    assert means == [25, 0, 100]


def test_a_split_of_the_study_with_few_shots():
    images, right, chosen = study.run_split(*planted(), seed=0, shots=2)
    assert len(images) == 12
    assert set(right) == {'pooled', *study.STRENGTHS, 'knn', 'linear'}
    # Four images teach a linear probe little.
    assert right.pop('linear').mean() > 0.5
    assert all(len(r) == 12 and r.all() for r in right.values())
    # Of equals, the weakest.
    assert chosen['image'] == (0.5, 1) and chosen['position'] == (0.8, 1)


def test_classes_too_small_for_three_parts_are_named():
    maps, labels, plane = planted()
    labels[:3] = 3
    with pytest.raises(ValueError, match='class 3 has 3 images.*5'):
        study.run_split(maps, labels, plane, seed=0)


@pytest.mark.parametrize('arm', ['position', 'radius'])
def test_a_narrow_kernel_of_the_study_finds_a_class(arm):
    """Its votes are too small for a number, but of one class alone."""
    maps, labels, plane = planted()
    memory = study.pixels_of(maps, labels, plane)
    asked = memory.select(torch.arange(4))
    far = memory.positions[:, 0].argmax().repeat(4, 1)
    zeros = torch.zeros(4, 1).double()
    own = (memory.labels, memory.images, memory.positions, memory.hues)
    found = LabelledNeighbours(zeros, far, *(field[far] for field in own))
    asked = asked._replace(positions=torch.full((4, 2), -0.1))
    queries = study.Queried(asked, found, labels[:1])
    guess = study.predicted(arm, 1e-3, 1, queries, memory, None)
    assert guess.tolist() == [memory.labels[far[0, 0]]]


def test_no_more_neighbours_are_chosen_than_there_are():
    assert study.choices_of('pixel', 20) == [(0.0, k) for k in (1, 5, 10, 20)]
    assert study.choices_of('pixel', 19) == [(0.0, k) for k in (1, 5, 10)]
    assert {k for _, k in study.choices_of('radius', 9)} == {1, 5}
    assert len(study.choices_of('image', 1)) == len(study.KAPPAS)
    # Three classes of one vector each: the pooled memory has no fifth.
    chosen = study.run_split(*planted(), seed=0, shots=1).chosen
    assert chosen['pooled'] == (0.0, 1)


def test_shots_that_there_are_not_are_named_as_they_were_asked():
    with pytest.raises(ValueError, match='^--shots 5000, but class'):
        study.run_split(*planted(), seed=0, shots=5000)
