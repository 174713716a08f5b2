"""Runs of a suite, each with a config and a hash of its own."""

import copy
import hashlib
import json
import zipfile
from numbers import Real
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from mmengine.config import Config

from ...files import replaced_file
from ...options import NonNegative, fits
from ..run_files import changed, file_digests

#: What a run leaves whose class angles another one takes.
ANGLES = 'class_angles.json'
RECORD = 'run_record.json'


def _hash(values: dict) -> str:
    text = json.dumps(values, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_json(file: Path) -> dict:
    """A JSON object; empty if the file is missing or damaged."""
    try:
        content = json.loads(file.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


#: What the table shows of a finished run's record. Metrics may be NaN.
_FIELDS = dict(
    identity=dict,
    initial=Dict[str, Optional[str]],
    order=List[str],
    val=List[Dict[str, Real]],
    test=Dict[str, Real],
    wall_s=NonNegative,
    cpu_s=NonNegative,
    peak_rss_mib=Optional[NonNegative],
    peak_cuda_mib=Optional[NonNegative],
    parameters=int,
    versions=dict,
    hardware=str,
)
#: Keys that some of these must have.
_INITIAL = {'backbone', 'head_fc'}
_VALIDATION = {'epoch', 'accuracy/top1'}


class Run(NamedTuple):
    """One training."""

    suite: str  # its name
    config: str  # name of the suite's entry
    arm: str
    role: str  # of the arm
    seed: int
    epochs: int
    values: dict  # the whole config
    test: bool  # whether it sees the test split
    processes: int  # that train it together
    measure: bool  # whether another run wants its class angles
    needs: Optional[Path]  # folder of the run that measures its class angles
    folder: Path  # its work dir

    @property
    def name(self) -> str:
        """What the run is called in messages."""
        return f'{self.config}/{self.arm} seed {self.seed}'

    @property
    def run_hash(self) -> str:
        """Hash of the whole config; see :attr:`files` for what it names."""
        return _hash(self.values)

    @property
    def config_hash(self) -> str:
        """Hash of the config without the run's seed."""
        return _hash(dict(self.values, randomness=None))

    @property
    def files(self) -> Dict[str, str]:
        """Digests of what the config names, and of measured class angles."""
        files = file_digests(self.values)
        if self.needs and (self.needs / ANGLES).is_file():
            angles = str(self.needs / ANGLES)
            # By the run's name, for the folder of all may be moved.
            name = f'{self.measured_from}/{ANGLES}'
            files[name] = file_digests([angles])[angles]
        return files

    @property
    def identity(self) -> dict:
        """What sets the run apart, as its record states it."""
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
            files=self.files,
        )

    @property
    def record_file(self) -> Path:
        """Where the finished run's record lies, once there is one."""
        return self.folder / RECORD

    def record(self) -> Optional[dict]:
        """The finished run's record, None before that.

        A record that lacks something counts for none: the run is trained on,
        or again.

        Raises:
            ValueError: If the folder holds a run of other settings.
        """
        part = self.record_file.with_suffix('.part.json')
        for file in (self.record_file, part):
            identity = _read_json(file).get('identity')
            has_identity = isinstance(identity, dict)
            old_hash = identity.get('run_hash') if has_identity else None
            if old_hash not in (None, self.run_hash):
                raise ValueError(
                    f'--out: {self.folder} holds a run of other settings '
                    f'(run_hash {old_hash}, not {self.run_hash}); keep it and '
                    'choose another folder with --out, or remove it'
                )
        record = _read_json(self.record_file)
        if not self._is_complete(record):
            return None
        self._check_environment(record)
        return record

    def _is_complete(self, record: dict) -> bool:
        """Whether a record has all that the table shows."""
        if not (
            all(fits(record.get(name), kind) for name, kind in _FIELDS.items())
            and _INITIAL <= set(record['initial'])
            and all(_VALIDATION <= set(entry) for entry in record['val'])
        ):
            return False
        cfg = self.values.get('train_cfg') or {}
        epochs = len(record['order'])
        if self.values.get('val_cfg') is not None and 'max_epochs' in cfg:
            begin, each = cfg.get('val_begin', 1), cfg.get('val_interval', 1)
            last = min(epochs, self.epochs)
            due = [
                epoch
                for epoch in range(1, last + 1)
                if epoch >= begin and (epoch == last or epoch % each == 0)
            ]
            done = [entry['epoch'] for entry in record['val']]
            if 'dynamic_intervals' not in cfg and done != due:
                return False
        if self.test:
            outputs = self.folder / 'test_outputs.npz'
            return bool(record['test']) and zipfile.is_zipfile(outputs)
        return epochs > 0

    def _check_environment(self, record: dict) -> None:
        """What decides the result and is no part of the config."""
        processes = record['identity'].get('processes', self.processes)
        if processes != self.processes:
            raise ValueError(
                f'--out: {self.folder} was trained by {processes} processes, '
                f'not {self.processes}; choose another folder with --out'
            )
        angles = self.folder / ANGLES
        if self.measure and not angles.is_file():
            raise ValueError(
                f'--out: {self.folder} was finished before another arm wanted '
                'its class angles; remove it, and it is trained again'
            )
        file = changed(record['identity'].get('files'), self.files)
        if file:
            raise ValueError(
                f'--out: {self.folder} was trained before {file!r} changed, '
                'of which it is made; choose another folder with --out, or '
                'put back what was there'
            )
        source = record['identity'].get('measured_from', self.measured_from)
        if source != self.measured_from:
            raise ValueError(
                f'--out: {self.folder} took its class angles from {source}, '
                f'not {self.measured_from}; remove it, and it is trained again'
            )

    @property
    def measured_from(self) -> Optional[str]:
        """The run that measured its class angles, as ``arm/seed1``."""
        return '/'.join(self.needs.parts[-2:]) if self.needs else None

    def write_config(self) -> Path:
        """Write what ``tools/train.py`` reads, the hooks included."""
        config = Config(copy.deepcopy(self.values))
        if self.needs:
            file = str(self.needs / ANGLES)
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
            dict(type='SampleSeedHook'),
            dict(type='DivergenceHook'),
            dict(type='RunRecordHook', identity=self.identity, test=self.test),
        ]
        if self.measure:
            hooks.append(dict(type='MeasureClassAnglesHook'))
        config.custom_hooks = list(config.get('custom_hooks', [])) + hooks
        custom_imports = config.get('custom_imports') or {}
        imports = custom_imports.get('imports') or []
        imports = [imports] if isinstance(imports, str) else list(imports)
        if 'u1_plugin.lab' not in imports:
            imports.append('u1_plugin.lab')
        config.custom_imports = dict(
            imports=imports,
            allow_failed_imports=custom_imports.get(
                'allow_failed_imports', False
            ),
        )
