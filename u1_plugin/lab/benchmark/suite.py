"""A benchmark suite: which arms, on which configs, with how many seeds."""

from pathlib import Path
from typing import (
    Annotated,
    Any,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ...options import Range, Seed, fits
from .arms import (
    Arm,
    Seeds,
    choose_arms,
    read_ablations,
    read_catalogue,
    read_exploratory,
)
from .primary import Primary, read_primary
from .suite_file import FieldReader, check_names, check_options, read_yaml

PerCent = Annotated[float, Range(0, 100, low_open=True)]


class SuiteEntry(NamedTuple):
    """A plain config of the zoo, and what the suite changes for every arm."""

    config: str  # below configs/, or a package's
    set: Dict[str, Any]  # options as of --cfg-options, before the arm's
    #: Of its folder and in tables; the config's stem unless the suite uses a
    #: config several times.
    name: str
    #: Of an anchor: the published top-1 in per cent, where a wrong baseline
    #: shows.
    expected: Optional[float] = None
    #: Arms that are left out here, such as one that the recipe has already.
    without: Tuple[str, ...] = ()
    file: Optional[Path] = None  # of the config, but for a package's


class Suite(NamedTuple):
    """A parsed suite."""

    name: str
    file: Path
    #: Commands that write the data: a tool below ``tools/`` and its arguments,
    #: the last of them the folder.
    prepare: Tuple[Tuple[str, ...], ...]
    processes: int  # and GPUs, of one run
    entries: Tuple[SuiteEntry, ...]  # configs with their data sets
    first_seed: int
    seeds: int  # of every arm, from first_seed on
    arms: Tuple[Arm, ...]  # trained, and tested on the test split
    exploratory_seeds: int
    exploratory: Tuple[Arm, ...]  # as arms, with fewer seeds
    ablation_seeds: int
    #: Trained, and evaluated on the validation split alone, so that choosing
    #: among them leaves the test split untouched.
    ablations: Tuple[Arm, ...]
    primary: Primary = Primary()
    #: Configs of which the baseline alone is trained, with one seed.
    anchors: Tuple[SuiteEntry, ...] = ()


def _entry(
    item: FieldReader, folders: Sequence[Path], expected: Optional[float]
) -> SuiteEntry:
    config = item.get('config', str)
    files = [folder / config for folder in folders]
    file = next((file for file in files if file.is_file()), None)
    if '::' not in config and file is None:
        raise ValueError(
            f'{item.where}.config={config!r} is no file in '
            f'{" or ".join(map(str, folders))}; name one of its configs, or '
            'one of MMPretrain as '
            '"mmpretrain::resnet/resnet18_8xb16_cifar10.py"'
        )
    entry = SuiteEntry(
        config,
        check_options(f'{item.where}.set', item.get('set', dict, {})),
        item.get('name', str, Path(config.split('::')[-1]).stem),
        expected,
        file=None if '::' in config else file,
    )
    check_names(f'{item.where}.name', [entry.name])
    return entry


def _entries(
    read: FieldReader, folders: Sequence[Path]
) -> Tuple[Tuple[SuiteEntry, ...], Tuple[SuiteEntry, ...]]:
    """Configs for every arm, and anchors."""
    fields = ('config', 'name', 'set')
    entries: List[SuiteEntry] = []
    for i, content in enumerate(read.get('configs', list)):
        item = FieldReader(f'suite.configs[{i}]', content, (*fields, 'without'))
        left_out = tuple(item.get('without', list, []))
        entry = _entry(item, folders, None)
        entries.append(entry._replace(without=left_out))
    anchors: List[SuiteEntry] = []
    for i, content in enumerate(read.get('anchors', list, [])):
        item = FieldReader(
            f'suite.anchors[{i}]', content, (*fields, 'expected')
        )
        expected = item.get('expected', PerCent)
        anchors.append(_entry(item, folders, float(expected)))
    names = [entry.name for entry in (*entries, *anchors)]
    if len(set(names)) != len(names) or not entries:
        raise ValueError(
            f'suite.configs={names} must be one or several different configs '
            '(with suite.anchors); give a config that occurs twice a `name` '
            'of its own'
        )
    check_names('suite.configs', names)
    return tuple(entries), tuple(anchors)


def _check_left_out(
    entry: SuiteEntry, every: Tuple[Arm, ...], primary: Primary
) -> None:
    primary_arms = {name for pair in primary.pairs for name in pair}
    names = [arm.name for arm in every if arm.role != 'baseline']
    left_out = entry.without
    wrong = [
        name
        for n, name in enumerate(left_out)
        if name not in names or name in left_out[:n] or name in primary_arms
    ]
    if wrong:
        raise ValueError(
            f'suite.configs: {entry.name}: without={wrong} must be arms of the '
            f'suite, each once, but its baseline and those of primary '
            f'comparisons: {names}'
        )


def load_suite(file: Path, configs: Optional[Path] = None) -> Suite:
    """Read and check a suite before anything starts.

    Args:
        file (Path): YAML. ``arms.yml`` beside it is the catalogue of arms;
            ``define`` adds to it, and ``tuned`` sets what validation chose.
            Its configs are looked for in the folder around its own, then
        configs (Path, optional): in this one.

    Returns:
        Suite: Complete and consistent, but for what
            :func:`~u1_plugin.lab.benchmark.expand.expand` finds: the configs'
            own contents, and who measures class angles.

    Raises:
        ValueError: For a field that is missing, unknown or out of range.
        FileNotFoundError: If there is no such file.
    """
    fields = ('name', 'prepare', 'processes', 'configs', 'seeds', 'arms')
    fields += ('first_seed', 'define', 'exploratory', 'ablations', 'primary')
    fields += ('anchors', 'tuned')
    read = FieldReader('suite', read_yaml(file), fields)
    name = read.get('name', str)
    check_names('suite.name', [name])
    catalogue = read_catalogue(file, read)
    seeds = read.get('seeds', Seeds)
    arms = choose_arms('suite.arms', read.get('arms', list), catalogue)
    if [arm.role for arm in arms].count('baseline') != 1:
        raise ValueError(
            f'suite.arms={[arm.name for arm in arms]} must contain exactly '
            'one arm with role: baseline, which the others are paired with'
        )
    fewer, exploratory = read_exploratory(read, catalogue, arms, seeds)
    ablation_seeds, ablations = read_ablations(read, catalogue)
    every = (*arms, *exploratory, *ablations)
    check_names('suite', [arm.name for arm in every], True)
    first_seed = read.get('first_seed', Seed, 0)
    if not fits(first_seed + max(seeds, ablation_seeds) - 1, Seed):
        raise ValueError(
            f'suite.first_seed={first_seed} leaves no room for so many seeds '
            f'up to {2**32 - 1}; begin lower'
        )
    primary = Primary()
    if 'primary' in read.content:
        names = [arm.name for arm in arms]
        primary = read_primary(read.content['primary'], names)
    around = file.resolve().parent.parent
    folders = [around, *([configs] if configs else [])]
    entries, anchors = _entries(read, list(dict.fromkeys(folders)))
    for entry in entries:
        _check_left_out(entry, every, primary)
    return Suite(
        name,
        file,
        _prepare(read),
        read.get('processes', Seeds, 1),
        entries,
        first_seed,
        seeds,
        arms,
        fewer,
        exploratory,
        ablation_seeds,
        ablations,
        primary,
        anchors,
    )


def _prepare(read: FieldReader) -> Tuple[Tuple[str, ...], ...]:
    commands = []
    for i, command in enumerate(read.get('prepare', list, [])):
        if not fits(command, List[Union[str, float]]) or len(command) < 2:
            raise ValueError(
                f'suite.prepare[{i}]={command!r} must list a tool below '
                'tools/, its arguments, and last the folder that it writes'
            )
        commands.append(tuple(map(str, command)))
    return tuple(commands)
