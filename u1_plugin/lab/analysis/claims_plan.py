"""Which networks are asked for which claims, and on which images.

A plan is YAML::

    settings: {classes: 30, images: 300, splits: 5, permutations: 9999}
    networks:
      lite0:
        config: configs/pretrained/efficientnet-lite0_memory_folder.py
        checkpoint: checkpoints/lite0.pth
        size: 160
    data:
      photos: {built_in: photos}
      emoji58: {folders: [data/emoji58/train, data/emoji58/test]}
    tables:
      trained: [{networks: [lite0], data: [photos, emoji58]}]

A table is a list of blocks, and a block is all cells of its networks, data,
``weights`` (``trained``, ``untrained``) and ``padding`` (``zeros``,
``reflect``, ``circular``, ``replicate``); ``memory: false`` leaves C4 out,
which takes most of the time.
"""

from itertools import product
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set

from ...measure.estimate import Several
from ...options import Count, Seed, checked
from ..benchmark.suite_file import FieldReader, read_yaml
from ..folds import WHOLE_ROUNDS, whole_rounds
from ..markup import file_name
from .built_in_images import BUILT_IN
from .sources import PADDINGS

WEIGHTS = ('trained', 'untrained')
ZEROS = 'zeros'
_PARTS = ('settings', 'networks', 'data', 'tables')
_BLOCK = ('networks', 'data', 'weights', 'padding', 'memory')


class Settings(NamedTuple):
    """What all cells have in common. Built-in data are taken whole."""

    #: At most so many of a data set, evenly spaced in the order of their names.
    classes: Several = 30
    images: Count = 300  # at most so many in all, equally many a class
    splits: Several = 5  # of the images, for C4; 5 test each of them once
    permutations: Count = 9999  # of each permutation test of C3
    batch_size: Count = 32  # images at a time
    seed: Seed = 0  # of untrained weights


class NetworkSource(NamedTuple):
    """A network."""

    config: str  # file of a config, or ``timm:NAME``
    checkpoint: Optional[str] = None  # its trained weights
    size: Optional[Count] = None  # of the square that it sees, pixels
    layer: str = 'backbone'  # module whose map is measured and memorised


class ImageSource(NamedTuple):
    """Images."""

    #: Of one folder a class each; classes of one name are one. Empty for
    #: built-in ones.
    folders: List[str] = []
    pattern: str = '*'  # of the files' names
    built_in: Optional[str] = None  # name of such
    #: Name of the data of which these are a variant, beside which the page puts
    #: them.
    of: Optional[str] = None


class Cell(NamedTuple):
    """One network on one set of images."""

    network: str  # name in the plan
    data: str  # name in the plan
    weights: str = WEIGHTS[0]  # one of :data:`WEIGHTS`
    padding: str = ZEROS  # ``'zeros'``, as the network was trained, or another

    @property
    def variant(self) -> str:
        """Weights, and padding if it is not the network's own."""
        if self.padding == ZEROS:
            return self.weights
        return f'{self.weights}, padding {self.padding}'

    @property
    def title(self) -> str:
        """For messages and files."""
        return '-'.join(self)


class Plan(NamedTuple):
    """What :func:`load_plan` read."""

    settings: Settings  # of all cells
    networks: Dict[str, NetworkSource]  # by name
    data: Dict[str, ImageSource]  # by name
    tables: Dict[str, List[Cell]]  # cells of each table; tables share none
    without_memory: Set[Cell]  # of which C4 is not asked

    def twin(self, cell: Cell) -> Cell:
        """The cell that another varies: trained, with zeros, as the data are.

        It is the cell itself if that varies nothing.
        """
        return Cell(cell.network, self.data[cell.data].of or cell.data)

    @property
    def cells(self) -> List[Cell]:
        """The cells of all tables, in order."""
        return [cell for cells in self.tables.values() for cell in cells]


def _named(content: Any, where: str, make: Any) -> Dict[str, Any]:
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{where}={content!r} must be a mapping of names')
    named = {}
    for name, options in content.items():
        field = f'{where}.{name}'
        if not isinstance(options, dict):
            raise ValueError(f'{field}={options!r} must be a mapping')
        if str(name) in named:
            raise ValueError(f'{where} has {str(name)!r} twice; rename one')
        # The fields of a named tuple are its options.
        named[str(name)] = checked(field)(make)(**options)
    return named


def _check_sources(data: Mapping[str, ImageSource]) -> None:
    for name, source in data.items():
        if bool(source.folders) == bool(source.built_in):
            raise ValueError(
                f'data.{name} must have folders or built_in, one of the two'
            )
        for field, valid_names in (('built_in', BUILT_IN), ('of', data)):
            value = getattr(source, field)
            if value is not None and value not in valid_names:
                raise ValueError(
                    f'data.{name}.{field}={value!r} must be one of '
                    f'{sorted(valid_names)}'
                )


def _block(where: str, content: Any, plan: Plan) -> List[Cell]:
    """All cells of a block."""
    fields = FieldReader(where, content, _BLOCK)
    choices = dict(
        networks=list(plan.networks),
        data=list(plan.data),
        weights=WEIGHTS,
        padding=(ZEROS, *PADDINGS),
    )
    chosen = []
    for field, valid_names in choices.items():
        default = valid_names[:1] if field in ('weights', 'padding') else None
        value = fields.content.get(field, default)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f'{where}.{field}={value!r} must be a list')
        for name in value:
            if name not in valid_names:
                raise ValueError(
                    f'{where}.{field} has {name!r}, which must be one of '
                    f'{list(valid_names)}'
                )
        chosen.append([str(name) for name in value])
    cells = [Cell(*names) for names in product(*chosen)]
    memory = fields.content.get('memory', True)
    if not isinstance(memory, bool):
        raise ValueError(f'{where}.memory={memory!r} must be true or false')
    if not memory:
        plan.without_memory.update(cells)
    return cells


def _content(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(
            f'plan={str(file)!r} does not exist; name one such as '
            'docs/results/claims/claims.yml'
        )
    try:
        return read_yaml(file)
    except ValueError as error:
        raise ValueError(str(error).replace('suite=', 'plan=', 1)) from None


def _add_tables(plan: Plan, tables: Any) -> None:
    if not isinstance(tables, dict) or not tables:
        raise ValueError(f'tables={tables!r} must be a mapping of names')
    places: Dict[Cell, str] = {}
    files: Dict[str, Cell] = {}
    for name, blocks in tables.items():
        where = f'tables.{name}'
        if not isinstance(blocks, list) or not blocks:
            raise ValueError(f'{where}={blocks!r} must be a list of blocks')
        cells = sum((_block(where, block, plan) for block in blocks), [])
        for cell in cells:
            if cell in places:
                raise ValueError(
                    f'{where}: the cell {cell.title} is in {places[cell]} '
                    'already; a verdict is corrected once'
                )
            places[cell] = where
            # Of one file two cells would read each other's numbers.
            other = files.setdefault(file_name(cell.title).lower(), cell)
            if other != cell:
                raise ValueError(
                    f'{where}: the cells {tuple(other)} and {tuple(cell)} are '
                    f'both called {cell.title!r}; rename a network or its data'
                )
            net = plan.networks[cell.network]
            if cell.weights == WEIGHTS[0] and net.checkpoint is None:
                raise ValueError(
                    f'networks.{cell.network} needs a checkpoint, for {where} '
                    'asks for its trained weights'
                )
        plan.tables[str(name)] = cells


def load_plan(file: Path) -> Plan:
    """Read a plan, and check it before the work.

    Args:
        file (Path): YAML, see above.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If something in it is wrong; the message names the field.
    """
    fields = FieldReader(str(file), _content(file), _PARTS)
    common = fields.content.get('settings', {})
    if not isinstance(common, dict):
        raise ValueError(f'settings={common!r} must be a mapping')
    settings = checked('settings')(Settings)(**common)
    if not whole_rounds(settings.splits):
        raise ValueError(f'settings.splits={settings.splits} {WHOLE_ROUNDS}')
    if settings.images < settings.classes:
        raise ValueError(
            f'settings.images={settings.images} in all are fewer than '
            f'settings.classes={settings.classes}; give one a class at least'
        )
    plan = Plan(
        settings,
        _named(fields.content.get('networks'), 'networks', NetworkSource),
        _named(fields.content.get('data'), 'data', ImageSource),
        {},
        set(),
    )
    _check_sources(plan.data)
    _add_tables(plan, fields.content.get('tables'))
    return plan
