"""Expands a suite into runs."""

from pathlib import Path
from typing import List

from .arm_configs import arm_config
from .arms import Arm
from .runs import Run
from .suite import Entry, Suite


def expand(suite: Suite, out: Path, root: Path) -> List[Run]:
    """Every run of a suite, in the order of training.

    Anchors come first; then seed by seed, so that whole pairs are there early;
    exploratory arms and ablations last. Runs that measure class angles come
    before those that need them.

    Args:
        suite (Suite): From :func:`~u1_plugin.lab.benchmark.suite.load_suite`.
        out (Path): Its folder for results.
        root (Path): The folder ``configs``.
    """
    baseline = tuple(arm for arm in suite.arms if arm.role == 'baseline')
    parts = (
        (1, suite.anchors, baseline, True),
        (suite.seeds, suite.entries, suite.arms, True),
        (suite.exploratory_seeds, suite.entries, suite.exploratory, True),
        (suite.ablation_seeds, suite.entries, suite.ablations, False),
    )
    measuring = {arm.measured for arm in (*suite.arms, *suite.exploratory)}
    runs = []
    for seeds, entries, arms, test in parts:
        configs = [
            (entry, arm, arm_config(root, entry, arm, 0))
            for entry in entries
            for arm in arms
            if arm.name not in entry.without
        ]
        runs += [
            _run(
                suite,
                entry,
                arm,
                number,
                config.to_dict(),
                test,
                entries is suite.entries and test and arm.name in measuring,
                out,
            )
            for number in range(seeds)
            for entry, arm, config in configs
        ]
    return runs


def _run(
    suite: Suite,
    entry: Entry,
    arm: Arm,
    number: int,
    values: dict,
    test: bool,
    measure: bool,
    out: Path,
) -> Run:
    seed = suite.first_seed + number
    values['randomness']['seed'] = seed
    # The same one when seeds are added later.
    other = suite.first_seed + (number - 1 if number else 1)
    folder = out / entry.name
    return Run(
        suite.name,
        entry.name,
        arm.name,
        arm.role,
        seed,
        values['train_cfg'].get('max_epochs', 0),
        values,
        test,
        suite.processes,
        measure,
        folder / arm.measured / f'seed{other}' if arm.measured else None,
        folder / arm.name / f'seed{seed}',
    )
