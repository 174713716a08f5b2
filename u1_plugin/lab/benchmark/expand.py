"""Expands a suite into runs, each with a config of its own."""

import copy
from functools import cache
from pathlib import Path
from typing import List, Sequence

from mmengine.config import Config

from .arms import Arm
from .known_options import check_options
from .runs import Run
from .suite import Suite, SuiteEntry

#: What a config must have to be trained, and to be tested in the end.
_PARTS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
_PARTS += ('test_dataloader',)
#: Stands for the measured angles' file, whose path is no part of the hash.
MEASURED = '@measured'


@cache
def _read(file: str) -> Config:
    """Read once; a suite asks for it run by run, and gets copies."""
    if '::' in file:  # a package's config, which only `_base_` finds
        return Config.fromstring(f'_base_ = [{file!r}]', '.py')
    return Config.fromfile(file)


def expand(suite: Suite, out: Path) -> List[Run]:
    """Every run of a suite, in the order of training.

    Anchors come first; then seed by seed, so that whole pairs are there early;
    exploratory arms and ablations last. Runs that measure class angles come
    before those that need them.

    Args:
        suite (Suite): From :func:`~u1_plugin.lab.benchmark.suite.load_suite`.
        out (Path): Its folder for results.

    Raises:
        ValueError: If a config cannot be read, an option does not fit it, or
            no run measures the class angles that another one needs.
    """
    baseline = tuple(arm for arm in suite.arms if arm.role == 'baseline')
    parts = (
        (1, suite.anchors, baseline, True),
        (suite.seeds, suite.entries, suite.arms, True),
        (suite.exploratory_seeds, suite.entries, suite.exploratory, True),
        (suite.ablation_seeds, suite.entries, suite.ablations, False),
    )
    trained = (*suite.arms, *suite.exploratory, *suite.ablations)
    measuring = {arm.measured for arm in trained}
    runs: List[Run] = []
    for seeds, entries, arms, test in parts:
        configs = [
            (entry, arm, arm_config(entry, arm))
            for entry in entries
            for arm in arms
            if arm.name not in entry.without
        ]
        measured = measuring if entries is suite.entries and test else ()
        for number in range(seeds):
            seed = suite.first_seed + number
            # The same one when seeds are added later.
            other = suite.first_seed + (number - 1 if number else 1)
            for entry, arm, config in configs:
                values = config.to_dict()
                values['randomness']['seed'] = seed
                folder = out / entry.name
                needs = arm.measured and folder / arm.measured / f'seed{other}'
                runs.append(
                    Run(
                        suite.name,
                        entry.name,
                        arm.name,
                        arm.role,
                        seed,
                        values['train_cfg'].get('max_epochs', 0),
                        values,
                        test,
                        suite.processes,
                        arm.name in measured,
                        needs,
                        folder / arm.name / f'seed{seed}',
                    )
                )
    _check_measured(suite, trained, runs)
    return runs


def _check_measured(
    suite: Suite, arms: Sequence[Arm], runs: Sequence[Run]
) -> None:
    """Raise ValueError unless measured class angles can be had."""
    waiting = {arm.name for arm in arms if arm.measured}
    measuring = {run.folder for run in runs if run.measure}
    for run in runs:
        if run.needs is None:
            continue
        source, seed = run.needs.parts[-2:]
        where = f'suite: arm {run.arm}: measured={source!r}'
        if source in waiting:
            raise ValueError(
                f'{where} has measured angles itself; name an arm without '
                '`measured`'
            )
        if run.needs not in measuring:
            names = [arm.name for arm in suite.arms]
            raise ValueError(
                f'{where} gives the angles of another seed, and {source} '
                f'{seed} of {run.config} is not trained: suite.arms={names} '
                f'have suite.seeds={suite.seeds}. Have {source!r} among them, '
                f'with 2 seeds or more and as many as {run.arm}, and leave out '
                'both arms or none (without)'
            )


def arm_config(entry: SuiteEntry, arm: Arm) -> Config:
    """The config of an arm, without a seed and the recording hooks.

    Hooks of an arm come beside those of the config.

    Args:
        entry (SuiteEntry): The plain config.
        arm (Arm): What becomes of it.

    Returns:
        Config: Complete; ``plain_model`` keeps the plain twin's model.

    Raises:
        ValueError: If an option of the arm does not fit the config.
    """
    options = dict(arm.set)
    if arm.measured:
        options['model.u1.class_angles.mode'] = 'file'
        options['model.u1.class_angles.file'] = MEASURED
    plain = _plain_config(entry)
    if 'custom_hooks' in options:  # beside the recipe's, such as EMAHook
        if not isinstance(options['custom_hooks'], list):
            raise ValueError(
                f'suite: arm {arm.name}: set.custom_hooks='
                f'{options["custom_hooks"]!r} must be a list of hooks'
            )
        hooks = plain.to_dict().get('custom_hooks') or []
        options['custom_hooks'] = [*hooks, *options['custom_hooks']]
    config = _merged(f'suite: arm {arm.name}: set', plain, options)
    config.randomness = dict(config.get('randomness') or {})
    config.randomness.setdefault('deterministic', False)
    return config


def _plain_config(entry: SuiteEntry) -> Config:
    """What the arms of an entry change."""
    where = f'suite.configs: {entry.name}'
    source = entry.config if entry.file is None else entry.file
    try:
        config = copy.deepcopy(_read(str(source)))
    except Exception as error:  # a config is a program
        raise ValueError(
            f'{where}: config={entry.config!r} cannot be read: '
            f'{type(error).__name__}: {error}'
        ) from error
    missing = [part for part in _PARTS if not config.get(part)]
    if missing:
        raise ValueError(
            f'{where}: config={entry.config!r} has no {", ".join(missing)}; '
            'name one that trains'
        )
    config = _merged(f'{where}: set', config, entry.set)
    config.plain_model = copy.deepcopy(config.model)
    return config


def _merged(where: str, config: Config, options: dict) -> Config:
    """A config with options that it must know."""
    after = copy.deepcopy(config)
    try:
        after.merge_from_dict(copy.deepcopy(options))
    except Exception as error:  # whatever a value of the wrong kind leads to
        raise ValueError(
            f'{where}={options} does not fit: {type(error).__name__}: {error}'
        ) from error
    check_options(where, config.to_dict(), after.to_dict())
    return after
