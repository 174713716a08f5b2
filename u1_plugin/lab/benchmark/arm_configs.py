"""The configs of a suite's arms."""

import copy
from functools import cache
from pathlib import Path

from mmengine.config import Config

from .known_options import check_options
from .suite import Arm, Entry

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


def arm_config(root: Path, entry: Entry, arm: Arm, seed: int) -> Config:
    """The config of one run, without the recording hooks.

    Args:
        root (Path): The folder ``configs``.
        entry (Entry): The plain config.
        arm (Arm): What becomes of it.
        seed (int): Of weights, data order and augmentation.

    Returns:
        Config: Complete; ``plain_model`` keeps the plain twin's model.

    Raises:
        ValueError: If an option of the arm does not fit the config.
    """
    plain = _plain_config(root, entry)
    where = f'suite: arm {arm.name}: set'
    options = dict(arm.set)
    if arm.measured:
        options['model.u1.class_angles.mode'] = 'file'
        options['model.u1.class_angles.file'] = MEASURED
    config = _merged(where, plain, options)
    given = config.get('randomness') or {}
    config.randomness = dict(given, seed=seed)
    config.randomness.setdefault('deterministic', False)
    return config


def _plain_config(root: Path, entry: Entry) -> Config:
    """What the arms of an entry change."""
    where = f'suite.configs: {entry.name}'
    source = entry.config if '::' in entry.config else root / entry.config
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
