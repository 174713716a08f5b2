"""A benchmark suite: which arms, on which configs, with how many seeds."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ...nn.base import check_choice
from .primary import Primary, read_primary
from .suite_file import Fields, check_names, check_options, read_yaml

#: ``control``: shares everything with U(1) but what is claimed to matter.
ROLES = ('baseline', 'u1', 'rival', 'control', 'ablation')
#: Whose variants ``ablations.set`` lists.
_METHOD = 'u1-feature'
#: Seeds, and processes of a run, beyond which a suite is a slip of the pen.
_MOST = 10000
#: NumPy's generators take no larger seed.
_LAST_SEED = 2**32 - 1


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
        primary (Primary): Comparisons that are named before the runs.
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
    primary: Primary = Primary()


def _arm(name: str, content: Any, where: str) -> Arm:
    where = f'{where}.{name}'
    read = Fields(where, content, ('role', 'set', 'measured'))
    measured = read.content.get('measured')
    arm = Arm(
        name,
        read.get('role', str),
        check_options(f'{where}.set', read.get('set', dict, {})),
        None if measured is None else read.get('measured', str),
    )
    check_choice(f'{where}.role', arm.role, ROLES)
    return arm


def _catalogue(file: Path, read: Fields) -> Dict[str, Arm]:
    """The arms of ``arms.yml`` beside the suite, and of ``define``."""
    catalogue = file.parent / 'arms.yml'
    known: Dict[str, Arm] = {}
    for source, content in (
        ('arms.yml', read_yaml(catalogue) if catalogue.is_file() else {}),
        ('suite.define', read.get('define', dict, {})),
    ):
        if not isinstance(content, dict):
            raise ValueError(f'{source}={content!r} must be a mapping of arms')
        check_names(source, list(content))
        for name, spec in content.items():
            known[name] = _arm(name, spec, source)
    return known


def _chosen(where: str, names: list, known: Dict[str, Arm]) -> Tuple[Arm, ...]:
    wrong = [n for n in names if not isinstance(n, str) or n not in known]
    if wrong or len(set(names)) != len(names) or not names:
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


def _entries(read: Fields, root: Path) -> Tuple[Entry, ...]:
    entries: List[Entry] = []
    for i, content in enumerate(read.get('configs', list)):
        where = f'suite.configs[{i}]'
        item = Fields(where, content, ('config', 'name', 'set'))
        config = item.get('config', str)
        entry = Entry(
            config,
            check_options(f'{where}.set', item.get('set', dict, {})),
            item.get('name', str, Path(config.split('::')[-1]).stem),
        )
        check_names(f'{where}.name', [entry.name])
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
    check_names('suite.configs', names)
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
    fields += ('first_seed', 'define', 'ablations', 'primary')
    read = Fields('suite', read_yaml(file), fields)
    name = read.get('name', str)
    check_names('suite.name', [name])
    known = _catalogue(file, read)
    seeds = read.between(1, _MOST, 'seeds')
    arms = _chosen('suite.arms', read.get('arms', list), known)
    if [arm.role for arm in arms].count('baseline') != 1:
        raise ValueError(
            f'suite.arms={[arm.name for arm in arms]} must contain exactly '
            'one arm with role: baseline, which the others are paired with'
        )
    _check_measured(arms, seeds, 'suite.arms')
    ablation_seeds, ablations = _ablations(read, known)
    check_names('suite', [arm.name for arm in (*arms, *ablations)], True)
    first_seed = read.between(0, _LAST_SEED, 'first_seed', 0)
    if first_seed + max(seeds, ablation_seeds) - 1 > _LAST_SEED:
        raise ValueError(
            f'suite.first_seed={first_seed} leaves no room for so many seeds '
            f'up to {_LAST_SEED}; begin lower'
        )
    return Suite(
        name,
        file,
        _prepare(read),
        read.between(1, _MOST, 'processes', 1),
        _entries(read, file.resolve().parent.parent),
        first_seed,
        seeds,
        arms,
        ablation_seeds,
        ablations,
        _primary(read, arms),
    )


def _primary(read: Fields, arms: Tuple[Arm, ...]) -> Primary:
    if 'primary' not in read.content:
        return Primary()
    return read_primary(read.content['primary'], [arm.name for arm in arms])


def _prepare(read: Fields) -> Tuple[Tuple[str, ...], ...]:
    commands = []
    for i, command in enumerate(read.get('prepare', list, [])):
        plain = isinstance(command, list) and len(command) > 1
        if not plain or not all(
            isinstance(word, (str, int, float)) and not isinstance(word, bool)
            for word in command
        ):
            raise ValueError(
                f'suite.prepare[{i}]={command!r} must list a tool below '
                'tools/, its arguments, and last the folder that it writes'
            )
        commands.append(tuple(map(str, command)))
    return tuple(commands)


def _ablations(
    read: Fields, known: Dict[str, Arm]
) -> Tuple[int, Tuple[Arm, ...]]:
    """Variants of the arm u1-feature (``set``) and of any other (``of``)."""
    content = read.get('ablations', dict, {})
    if not content:
        return 0, ()
    part = Fields('suite.ablations', content, ('seeds', 'set', 'of'))
    variants = part.get('set', dict, {})
    arms = []
    if variants:
        arms += _variants('suite.ablations.set', _METHOD, variants, known, '')
    for base, variants in part.get('of', dict, {}).items():
        arms += _variants(
            'suite.ablations.of', base, variants, known, f'{base}+'
        )
    return part.between(1, _MOST, 'seeds'), tuple(arms)


def _variants(
    where: str, base: str, variants: Any, known: Dict[str, Arm], prefix: str
) -> List[Arm]:
    (arm,) = _chosen(where, [base], known)
    if not isinstance(variants, dict):
        raise ValueError(
            f'{where}.{base}={variants!r} must be a mapping of names to options'
        )
    check_names(f'{where}.{base}', list(variants))
    return [
        arm._replace(
            name=f'{prefix}{name}',
            role='ablation',
            set={
                **arm.set,
                **check_options(f'{where}.{base}.{name}', options),
            },
        )
        for name, options in variants.items()
    ]
