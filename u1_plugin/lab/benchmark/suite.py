"""A benchmark suite: which arms, on which configs, with how many seeds."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import yaml

from ...nn.base import check_choice

#: ``control``: shares everything with U(1) but what is claimed to matter.
ROLES = ('baseline', 'u1', 'rival', 'control', 'ablation')
#: Whose variants ``ablations.set`` lists.
_METHOD = 'u1-feature'


class Arm(NamedTuple):
    """One training recipe.

    Attributes:
        name (str): A folder's name.
        role (str): One of :data:`ROLES`.
        set (dict): Options as of ``--cfg-options``, such as ``model.type``.
        measured (str | None): The arm whose run of *another* seed measures
            this arm's class angles.
    """

    name: str
    role: str
    set: Dict[str, Any] = {}
    measured: Optional[str] = None


class Entry(NamedTuple):
    """A plain config of the zoo, and what the suite changes for every arm.

    Attributes:
        config (str): Below ``configs/``.
        set (dict): Options as of ``--cfg-options``, applied before the arm's.
        name (str): Of its folder and in tables; the config's stem unless the
            suite uses a config several times.
    """

    config: str
    set: Dict[str, Any]
    name: str


class Suite(NamedTuple):
    """A parsed suite.

    Attributes:
        name (str): Of the suite.
        file (Path): Where it was read.
        prepare (Tuple[Tuple[str, ...], ...]): Commands that write the data,
            each a tool below ``tools/`` with its arguments, the last of them
            the folder.
        processes (int): Processes, and GPUs, of one run.
        entries (Tuple[Entry, ...]): Configs with their data sets.
        first_seed (int): The lowest seed.
        seeds (int): Of every arm: so many from ``first_seed`` on.
        arms (Tuple[Arm, ...]): Trained, and tested on the test split.
        ablation_seeds (int): Of every ablation.
        ablations (Tuple[Arm, ...]): Trained, and evaluated on the validation
            split alone, so that choosing among them leaves the test split
            untouched.
    """

    name: str
    file: Path
    prepare: Tuple[Tuple[str, ...], ...]
    processes: int
    entries: Tuple[Entry, ...]
    first_seed: int
    seeds: int
    arms: Tuple[Arm, ...]
    ablation_seeds: int
    ablations: Tuple[Arm, ...]


class _Reader:
    """Reads fields of one mapping and says where an error is."""

    def __init__(self, where: str, content: Any, known: tuple) -> None:
        if not isinstance(content, dict):
            raise ValueError(
                f'{where}={content!r} must be a mapping with the fields '
                f'{", ".join(known)}'
            )
        unknown = sorted(set(map(str, content)) - set(known))
        if unknown:
            raise ValueError(
                f'{where} has the unknown field(s) {unknown}; '
                f'use {", ".join(known)}'
            )
        self.where = where
        self.content = content

    def get(self, field: str, kind: type, default: Any = None) -> Any:
        if field not in self.content and default is not None:
            return default
        value = self.content.get(field)
        right = isinstance(value, kind) and not isinstance(value, bool)
        if not right:
            raise ValueError(
                f'{self.where}.{field}={value!r} must be of type '
                f'{kind.__name__}; write it as in configs/suites/quick.yml'
            )
        return value

    def at_least(self, least: int, field: str, default: Any = None) -> int:
        value = self.get(field, int, default)
        if value < least:
            raise ValueError(
                f'{self.where}.{field}={value} must be a number >= {least}'
            )
        return value

    def positive(self, field: str, default: Any = None) -> int:
        return self.at_least(1, field, default)


def _read_yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f'suite={str(file)!r} does not exist; those of the plugin are in '
            'configs/suites'
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f'suite={str(file)!r} is not YAML: {error}') from error


def _check_name(where: str, name: str) -> None:
    if not name.replace('-', '').replace('_', '').replace('.', '').isalnum():
        raise ValueError(
            f'{where}: the name {name!r} becomes a folder; use letters, '
            'digits, ".", "-" and "_"'
        )


def _arm(name: str, content: Any, where: str) -> Arm:
    where = f'{where}.{name}'
    read = _Reader(where, content, ('role', 'set', 'measured'))
    _check_name(where, name)
    arm = Arm(
        name,
        read.get('role', str),
        read.get('set', dict, {}),
        read.content.get('measured'),
    )
    check_choice(f'{where}.role', arm.role, ROLES)
    return arm


def _chosen(where: str, names: list, known: Dict[str, Arm]) -> Tuple[Arm, ...]:
    missing = [name for name in names if name not in known]
    if missing or len(set(map(str, names))) != len(names) or not names:
        raise ValueError(
            f'{where}={names} must be different names among {sorted(known)}; '
            'define others under `define`'
        )
    return tuple(known[name] for name in names)


def _check_measured(arms: Tuple[Arm, ...], seeds: int, where: str) -> None:
    names = {arm.name for arm in arms}
    for arm in arms:
        if arm.measured is None:
            continue
        if arm.measured not in names:
            raise ValueError(
                f'{where}: {arm.name} has measured={arm.measured!r}, which is '
                'not trained with it; add that arm to the list'
            )
        source = next(a for a in arms if a.name == arm.measured)
        if source.measured is not None:
            raise ValueError(
                f'{where}: {arm.name} has measured={arm.measured!r}, whose '
                'own angles are measured; name an arm without `measured`'
            )
        if seeds < 2:
            raise ValueError(
                f'{where}: {arm.name} takes its angles from another seed, but '
                f'seeds={seeds}; use 2 or more'
            )


def _entries(read: _Reader, root: Path) -> Tuple[Entry, ...]:
    entries: List[Entry] = []
    for i, content in enumerate(read.get('configs', list)):
        where = f'suite.configs[{i}]'
        item = _Reader(where, content, ('config', 'name', 'set'))
        config = item.get('config', str)
        entry = Entry(
            config,
            item.get('set', dict, {}),
            item.get('name', str, Path(config.split('::')[-1]).stem),
        )
        _check_name(where, entry.name)
        if '::' not in config and not (root / config).is_file():
            raise ValueError(
                f'{where}.config={config!r} is no file in {root}; '
                'name one of its configs, or one of MMPretrain as '
                '"mmpretrain::resnet/resnet18_8xb16_cifar10.py"'
            )
        entries.append(entry)
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names) or not names:
        raise ValueError(
            f'suite.configs={names} must be one or several different configs; '
            'give a config that occurs twice a `name` of its own'
        )
    return tuple(entries)


def load_suite(file: Path) -> Suite:
    """Read and check a suite before anything starts.

    Args:
        file (Path): YAML. ``arms.yml`` beside it is the catalogue of arms;
            ``define`` adds to it.

    Returns:
        Suite: Complete and consistent, but for the configs' own contents.

    Raises:
        ValueError: For a field that is missing, unknown or out of range.
        FileNotFoundError: If there is no such file.
    """
    fields = ('name', 'prepare', 'processes', 'configs', 'seeds', 'arms')
    fields += ('first_seed', 'define', 'ablations')
    read = _Reader('suite', _read_yaml(file), fields)
    catalogue = file.parent / 'arms.yml'
    known: Dict[str, Arm] = {}
    for source, content in (
        ('arms.yml', _read_yaml(catalogue) if catalogue.is_file() else {}),
        ('suite.define', read.get('define', dict, {})),
    ):
        for name, spec in (content or {}).items():
            known[str(name)] = _arm(str(name), spec, source)
    seeds = read.positive('seeds')
    arms = _chosen('suite.arms', read.get('arms', list), known)
    if [arm.role for arm in arms].count('baseline') != 1:
        raise ValueError(
            f'suite.arms={[arm.name for arm in arms]} must contain exactly '
            'one arm with role: baseline, which the others are paired with'
        )
    _check_measured(arms, seeds, 'suite.arms')
    ablation_seeds, ablations = _ablations(read, known)
    prepare = tuple(
        tuple(map(str, command)) for command in read.get('prepare', list, [])
    )
    return Suite(
        read.get('name', str),
        file,
        prepare,
        read.positive('processes', 1),
        _entries(read, file.resolve().parent.parent),
        read.at_least(0, 'first_seed', 0),
        seeds,
        arms,
        ablation_seeds,
        ablations,
    )


def _ablations(
    read: _Reader, known: Dict[str, Arm]
) -> Tuple[int, Tuple[Arm, ...]]:
    """Variants of the arm u1-feature (``set``) and of any other (``of``)."""
    content = read.get('ablations', dict, {})
    if not content:
        return 0, ()
    part = _Reader('suite.ablations', content, ('seeds', 'set', 'of'))
    variants = part.get('set', dict, {})
    arms = []
    if variants:
        arms += _variants('suite.ablations.set', _METHOD, variants, known, '')
    for base, variants in part.get('of', dict, {}).items():
        arms += _variants(
            'suite.ablations.of', base, variants, known, f'{base}+'
        )
    return part.positive('seeds'), tuple(arms)


def _variants(
    where: str, base: str, variants: dict, known: Dict[str, Arm], prefix: str
) -> List[Arm]:
    (arm,) = _chosen(where, [base], known)
    for name in variants:
        _check_name(f'{where}.{base}', str(name))
    return [
        arm._replace(
            name=f'{prefix}{name}',
            role='ablation',
            set={**arm.set, **(options or {})},
        )
        for name, options in variants.items()
    ]
