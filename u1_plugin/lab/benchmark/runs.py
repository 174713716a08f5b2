"""Expands a suite into runs, each with a config and a hash of its own."""

import copy
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import List, NamedTuple, Optional

from mmengine.config import Config

from ...files import replaced_file
from .suite import Arm, Entry, Suite

#: Stands for the measured angles' file, whose path is no part of the hash.
_MEASURED = '@measured'


def _hash(values: dict) -> str:
    text = json.dumps(values, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Run(NamedTuple):
    """One training.

    Attributes:
        suite (str): Name of the suite.
        config (str): Name of the suite's entry.
        arm (str): Name of the arm.
        role (str): Of the arm.
        seed (int): Of the run.
        epochs (int): Of the run.
        values (dict): The whole config.
        test (bool): Whether it sees the test split.
        processes (int): That train it together.
        measure (bool): Whether another run wants its class angles.
        needs (Path | None): Folder of the run that measures this run's
            class angles.
        folder (Path): Its work dir.
    """

    suite: str
    config: str
    arm: str
    role: str
    seed: int
    epochs: int
    values: dict
    test: bool
    processes: int
    measure: bool
    needs: Optional[Path]
    folder: Path

    @property
    def name(self) -> str:
        return f'{self.config}/{self.arm} seed {self.seed}'

    @property
    def run_hash(self) -> str:
        """Of everything that decides the result but the code itself."""
        return _hash(self.values)

    @property
    def config_hash(self) -> str:
        """Of the config without the run's seed."""
        return _hash(dict(self.values, randomness=None))

    @property
    def identity(self) -> dict:
        return dict(
            suite=self.suite,
            config=self.config,
            arm=self.arm,
            role=self.role,
            seed=self.seed,
            epochs=self.epochs,
            run_hash=self.run_hash,
            measured_from=self.measured_from,
            processes=self.processes,
        )

    @property
    def record_file(self) -> Path:
        return self.folder / 'run_record.json'

    def record(self) -> Optional[dict]:
        """The finished run's record, None before that.

        Raises:
            ValueError: If the folder holds a run of other settings.
        """
        if not self.record_file.is_file():
            return None
        record = json.loads(self.record_file.read_text())
        found = record['identity']['run_hash']
        if found != self.run_hash:
            raise ValueError(
                f'out: {self.folder} holds a finished run of other settings '
                f'(run_hash {found}, not {self.run_hash}); keep it and choose '
                'another folder with --out, or remove it'
            )
        self._check_surroundings(record)
        return record

    def _check_surroundings(self, record: dict) -> None:
        """What decides the result and is no part of the config."""
        processes = record['identity'].get('processes', self.processes)
        if processes != self.processes:
            raise ValueError(
                f'out: {self.folder} was trained by {processes} processes, '
                f'not {self.processes}; choose another folder with --out'
            )
        angles = self.folder / 'class_angles.json'
        if self.measure and not angles.is_file():
            raise ValueError(
                f'out: {self.folder} was finished before another arm wanted '
                'its class angles; remove it, and it is trained again'
            )
        source = record['identity'].get('measured_from', self.measured_from)
        if source != self.measured_from:
            raise ValueError(
                f'out: {self.folder} took its class angles from {source}, not '
                f'{self.measured_from}; remove it, and it is trained again'
            )

    @property
    def measured_from(self) -> Optional[str]:
        """The run that measured its class angles, as ``arm/seed1``."""
        return '/'.join(self.needs.parts[-2:]) if self.needs else None

    def write_config(self) -> Path:
        """Write what ``tools/train.py`` reads, the hooks included."""
        config = Config(copy.deepcopy(self.values))
        if self.needs:
            file = str(self.needs / 'class_angles.json')
            config.model.u1.class_angles.file = file
        self._add_hooks(config)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / 'config.py'
        with replaced_file(file) as part:
            # As MMEngine's own dump, which takes half a second to be pretty.
            lines = [f'{k} = {v!r}\n' for k, v in config.to_dict().items()]
            part.write_text(''.join(lines))
        return file

    def _add_hooks(self, config: Config) -> None:
        twin = config.pop('plain_model')
        hooks = [
            dict(type='PairedStartHook', model=twin, seed=self.seed),
            dict(type='RunRecordHook', identity=self.identity, test=self.test),
        ]
        if self.measure:
            hooks.append(dict(type='MeasureClassAnglesHook'))
        config.custom_hooks = list(config.get('custom_hooks', [])) + hooks
        own = config.get('custom_imports') or {}
        imports = own.get('imports') or []
        imports = [imports] if isinstance(imports, str) else list(imports)
        if 'u1_plugin.lab' not in imports:
            imports.append('u1_plugin.lab')
        config.custom_imports = dict(
            imports=imports,
            allow_failed_imports=own.get('allow_failed_imports', False),
        )


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
    source = entry.config if '::' in entry.config else root / entry.config
    config = copy.deepcopy(_read(str(source)))
    config.merge_from_dict(copy.deepcopy(entry.set))
    config.plain_model = copy.deepcopy(config.model)
    try:
        config.merge_from_dict(copy.deepcopy(arm.set))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f'arm {arm.name}: set={arm.set} does not fit '
            f'{entry.config}: {error}'
        ) from error
    if arm.measured:
        config.merge_from_dict(
            {
                'model.u1.class_angles.mode': 'file',
                'model.u1.class_angles.file': _MEASURED,
            }
        )
    deterministic = config.get('randomness', {}).get('deterministic', False)
    config.randomness = dict(seed=seed, deterministic=deterministic)
    return config


def expand(suite: Suite, out: Path, root: Path) -> List[Run]:
    """Every run of a suite, in the order of training.

    Seed by seed, so that whole pairs are there early; ablations last. Runs
    that measure class angles come before those that need them.

    Args:
        suite (Suite): From :func:`~u1_plugin.lab.benchmark.suite.load_suite`.
        out (Path): Its folder for results.
        root (Path): The folder ``configs``.
    """
    measuring = {arm.measured for arm in suite.arms}
    runs = []
    parts = (
        (suite.seeds, suite.arms, True),
        (suite.ablation_seeds, suite.ablations, False),
    )
    for seeds, arms, test in parts:
        for number in range(seeds):
            seed = suite.first_seed + number
            for entry in suite.entries:
                for arm in arms:
                    config = arm_config(root, entry, arm, seed)
                    other = suite.first_seed + (number + 1) % seeds
                    folder = out / entry.name
                    needs = (
                        folder / arm.measured / f'seed{other}'
                        if arm.measured
                        else None
                    )
                    runs.append(
                        Run(
                            suite.name,
                            entry.name,
                            arm.name,
                            arm.role,
                            seed,
                            config.train_cfg.get('max_epochs', 0),
                            config.to_dict(),
                            test,
                            suite.processes,
                            arm.name in measuring and test,
                            needs,
                            folder / arm.name / f'seed{seed}',
                        )
                    )
    return runs
