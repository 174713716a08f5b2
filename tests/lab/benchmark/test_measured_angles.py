"""Runs with class angles that a run of another seed measures."""

from pathlib import Path

import pytest
import yaml
from helpers import copied_suites
from small_suites import GOOD

from u1_plugin.lab.benchmark.expand import expand
from u1_plugin.lab.benchmark.suite import load_suite


def test_measured_angles_come_from_another_seed(root):
    suite = load_suite(root / 'configs/suites/quick.yml')
    runs = expand(suite, Path('out'))
    measured = [run for run in runs if run.arm == 'u1-measured']
    assert len(measured) == 10
    assert [run.seed for run in measured] == list(range(10))
    later = suite._replace(first_seed=30, seeds=3)
    runs += expand(later, Path('later'))
    late = [r for r in runs if r.arm == 'u1-measured' and r.seed >= 30]
    assert [run.needs.name for run in late] == ['seed31', 'seed30', 'seed31']
    # More seeds change no run that is there.
    more = expand(later._replace(seeds=5), Path('later'))
    needs = {(r.arm, r.seed): r.needs for r in more}
    assert all(needs[r.arm, r.seed] == r.needs for r in late)
    for run in measured + late:
        other = next(r for r in runs if r.folder == run.needs)
        assert other.arm == 'one-hot' and other.measure
        assert other.seed != run.seed


def ablated(file: Path, **changes) -> list:
    """Runs of a suite with an ablation of an arm with measured angles."""
    change = {'lam': {'model.u1.loss.loss_weight': 1.0}}
    ablations = dict(seeds=1, of={'u1-measured': change})
    arms = ['one-hot', 'u1-feature']
    content = dict(GOOD, arms=arms, ablations=ablations)
    file.write_text(yaml.safe_dump({**content, **changes}))
    return expand(load_suite(file), file.parent / 'out')


def test_ablations_of_measured_angles_wait_for_runs_that_come(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    runs = {run.folder: run for run in ablated(file)}
    (waiting,) = [run for run in runs.values() if run.needs]
    assert waiting.arm == 'u1-measured+lam'
    measuring = runs[waiting.needs]
    assert measuring.measure and measuring.seed != waiting.seed


def defined(measured: str, **changes) -> dict:
    """Changes of a suite: an arm `other` that takes measured angles."""
    other = dict(role='u1', measured=measured)
    return dict(define={'other': other}, ablations={}, **changes)


PLAIN = {'plain': dict(role='baseline')}
#: Changes of a suite, and of an arm the value of `measured` and why not.
UNMEASURED = [
    (dict(seeds=1), 'u1-measured.lam', 'one-hot', 'seed1'),
    (dict(arms=['plain'], define=PLAIN), 'u1-measured.lam', 'one-hot', 'seed1'),
    (
        dict(ablations=dict(seeds=4, of={'u1-measured': {'x': {}}})),
        *('u1-measured.x', 'one-hot', 'seed2'),
    ),
    (
        dict(seeds=1, arms=['one-hot', 'u1-measured']),
        *('u1-measured', 'one-hot', 'seed1'),
    ),
    (
        defined('one-hot', seeds=1, exploratory=dict(seeds=1, arms=['other'])),
        *('other', 'one-hot', 'seed1'),
    ),
    (
        defined(
            'u1-zero',
            configs=[dict(GOOD['configs'][0], without=['u1-zero'])],
            arms=['one-hot', 'u1-zero', 'other'],
        ),
        *('other', 'u1-zero', 'seed1'),
    ),
    (
        defined('u1-measured', arms=['one-hot', 'u1-measured', 'other']),
        *('other', 'u1-measured', 'measured angles itself'),
    ),
    (
        defined('other', arms=['one-hot', 'other']),
        *('other', 'other', 'measured angles itself'),
    ),
    (defined('lam', arms=['one-hot', 'other']), 'other', 'lam', 'seed1'),
]


@pytest.mark.parametrize('changes, arm, measured, why', UNMEASURED)
def test_angles_that_no_run_measures_are_refused(
    changes, arm, measured, why, root, tmp_path
):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    words = f"suite: arm {arm}: measured='{measured}' .*{why}.* (Have|name) "
    with pytest.raises(ValueError, match=words):
        ablated(file, **changes)
