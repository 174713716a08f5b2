"""The arms of a suite: recipes, their catalogue, and variants of them."""

import fnmatch
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Dict,
    List,
    Literal,
    NamedTuple,
    Optional,
    Tuple,
)

from ...options import Range
from .suite_file import (
    FieldReader,
    check_apart,
    check_names,
    check_options,
    read_yaml,
)

#: ``control``: shares everything with U(1) but what is claimed to matter.
ROLES = ('baseline', 'u1', 'rival', 'control', 'ablation')
#: File of arms beside a suite; the plugin's is in configs/suites.
CATALOGUE = 'arms.yml'
#: Whose variants ``ablations.set`` lists.
_METHOD = 'u1-feature'
#: Of which an arm has its own beside those of others.
_HOOKS = 'custom_hooks'
#: More seeds are a slip of the pen.
Seeds = Annotated[int, Range(1, 10000)]


class Arm(NamedTuple):
    """One training recipe."""

    name: str  # of a folder
    role: str  # one of ROLES
    set: Dict[str, Any] = {}  # options as of --cfg-options
    #: The arm whose run of *another* seed measures this arm's class angles.
    measured: Optional[str] = None


def _arm(name: str, content: Any, where: str) -> Arm:
    where = f'{where}.{name}'
    read = FieldReader(where, content, ('role', 'set', 'measured'))
    return Arm(
        name,
        read.get('role', Literal[ROLES]),
        check_options(f'{where}.set', read.get('set', dict, {})),
        read.get('measured', Optional[str]),
    )


def read_catalogue(file: Path, read: FieldReader) -> Dict[str, Arm]:
    """The arms that a suite may choose from.

    Args:
        file (Path): The suite. ``arms.yml`` beside it is the catalogue.
        read (FieldReader): Of the suite: ``define`` adds arms, and ``tuned``
            gives options to all whose names match a pattern such as ``'u1-*'``,
            but for what an arm sets by the very same name.

    Raises:
        ValueError: If an arm is wrong, or a pattern matches none.
    """
    catalogue = file.parent / CATALOGUE
    arms: Dict[str, Arm] = {}
    for source, content in (
        (CATALOGUE, read_yaml(catalogue) if catalogue.is_file() else {}),
        ('suite.define', read.get('define', dict, {})),
    ):
        if not isinstance(content, dict):
            raise ValueError(f'{source}={content!r} must be a mapping of arms')
        check_names(source, list(content))
        for name, spec in content.items():
            arms[name] = _arm(name, spec, source)
    for pattern, options in read.get('tuned', dict, {}).items():
        where = f'suite.tuned.{pattern}'
        names = fnmatch.filter(arms, str(pattern))
        if not names:
            raise ValueError(f'{where} matches none of the arms {sorted(arms)}')
        options = check_options(where, options)
        for name in names:
            settings = arms[name].set
            # What an arm sets by that very name is what it is: lambda = 0.
            more = {
                key: v
                for key, v in options.items()
                if key not in settings or key == _HOOKS
            }
            arms[name] = arms[name]._replace(
                set=_joined(f'{where} of the arm {name}', settings, more)
            )
    return arms


def choose_arms(
    where: str, names: list, catalogue: Dict[str, Arm]
) -> Tuple[Arm, ...]:
    """Look up the arms that a suite names, in its order.

    Args:
        where (str): The field, for messages.
        names (list): What the suite's file has there.
        catalogue (Dict[str, Arm]): All that may be chosen.

    Raises:
        ValueError: If a name is unknown or named twice, or there is none.
    """
    wrong = [n for n in names if not isinstance(n, str) or n not in catalogue]
    if wrong or len(set(names)) != len(names) or not names:
        raise ValueError(
            f'{where}={names} must be different names among {sorted(catalogue)}'
            f' of {CATALOGUE} beside the suite; define others under `define`'
        )
    return tuple(catalogue[name] for name in names)


def read_exploratory(
    read: FieldReader,
    catalogue: Dict[str, Arm],
    arms: Tuple[Arm, ...],
    seeds: int,
) -> Tuple[int, Tuple[Arm, ...]]:
    """Arms that no primary comparison needs, with fewer seeds.

    Args:
        read (FieldReader): Of the suite.
        catalogue (Dict[str, Arm]): The catalogue.
        arms (Tuple[Arm, ...]): That have all seeds.
        seeds (int): Of these.

    Raises:
        ValueError: If a field is missing or wrong, an arm is listed twice, or
            has seeds that its baseline lacks.
    """
    content = read.get('exploratory', dict, {})
    if not content:
        return 0, ()
    where = 'suite.exploratory'
    part = FieldReader(where, content, ('seeds', 'arms'))
    fewer = part.get('seeds', Annotated[int, Range(1, seeds)])
    more = choose_arms(f'{where}.arms', part.get('arms', list), catalogue)
    twice = sorted({a.name for a in arms} & {a.name for a in more})
    if twice or any(arm.role == 'baseline' for arm in more):
        raise ValueError(
            f'{where}.arms={[a.name for a in more]} must name arms that '
            'suite.arms does not, and no baseline; remove '
            f'{twice or "the baseline"}'
        )
    return fewer, more


def read_ablations(
    read: FieldReader, catalogue: Dict[str, Arm]
) -> Tuple[int, Tuple[Arm, ...]]:
    """Variants of the arm u1-feature (``set``) and of any other (``of``)."""
    content = read.get('ablations', dict, {})
    if not content:
        return 0, ()
    part = FieldReader('suite.ablations', content, ('seeds', 'set', 'of'))
    variants = part.get('set', dict, {})
    arms = []
    if variants:
        arms += _variants(
            'suite.ablations.set', _METHOD, variants, catalogue, ''
        )
    for base, variants in part.get('of', dict, {}).items():
        arms += _variants(
            'suite.ablations.of', base, variants, catalogue, f'{base}+'
        )
    return part.get('seeds', Seeds), tuple(arms)


def _variants(
    where: str, base: str, variants: Any, catalogue: Dict[str, Arm], prefix: str
) -> List[Arm]:
    (arm,) = choose_arms(where, [base], catalogue)
    if not isinstance(variants, dict):
        raise ValueError(
            f'{where}.{base}={variants!r} must be a mapping of names to options'
        )
    check_names(f'{where}.{base}', list(variants))
    return [
        arm._replace(
            name=f'{prefix}{name}',
            role='ablation',
            set=_joined(
                f'{where}.{base}.{name}',
                arm.set,
                check_options(f'{where}.{base}.{name}', options),
            ),
        )
        for name, options in variants.items()
    ]


def _joined(
    where: str, settings: Dict[str, Any], more: Dict[str, Any]
) -> Dict[str, Any]:
    """Options of an arm, and more that take their place; hooks are added.

    Raises:
        ValueError: If one of the later options hides an earlier one, whatever
            it says.
    """
    joined = {**settings, **more}
    hooks = [options.get(_HOOKS) for options in (settings, more)]
    if all(isinstance(part, list) for part in hooks):
        joined[_HOOKS] = [*hooks[0], *hooks[1]]
    check_apart(where, joined)
    return joined
