"""Reads YAML of suites, and says by field what is wrong with it."""

import math
import re
from pathlib import Path
from typing import Any, List

import yaml

from ...nn.data_files import load_yaml
from ...options import check

#: Names become folders, and cells of tables. Names of variants of an arm,
#: ``arm+variant``, are made of two of these.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')
_LONGEST = 100
#: What YAML 1.1 takes for text, and a reader for a number.
_EXPONENT = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+')
_PLAIN = (str, int, float, bool, type(None))


class FieldReader:
    """Reads fields of one mapping and says where an error is."""

    def __init__(self, where: str, content: Any, fields: tuple) -> None:
        if not isinstance(content, dict):
            raise ValueError(
                f'{where}={content!r} must be a mapping with the fields '
                f'{", ".join(fields)}'
            )
        unknown = sorted(set(map(str, content)) - set(fields))
        if unknown:
            raise ValueError(
                f'{where} has the unknown field(s) {unknown}; '
                f'use {", ".join(fields)}'
            )
        self.where = where
        self.content = content

    def get(self, field: str, hint: Any, default: Any = None) -> Any:
        """A field that fits an annotation.

        Args:
            field (str): Its name.
            hint: See :func:`~u1_plugin.options.check`.
            default: Of a field that may be missing; None where it may not.
        """
        if field not in self.content and default is not None:
            return default
        return check(f'{self.where}.{field}', self.content.get(field), hint)


def read_yaml(file: Path) -> Any:
    """The content of a file of safe YAML.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no YAML; the message names the file.
    """
    try:
        return load_yaml(file.read_text(encoding='utf-8'), aliases=True)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'suite={str(file)!r} does not exist; those of the plugin are in '
            'configs/suites'
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f'suite={str(file)!r} is not YAML: {error}') from error
    except OSError as error:
        raise ValueError(
            f'suite={str(file)!r} cannot be read: {error.strerror}'
        ) from error


def check_names(where: str, names: List[Any], variants: bool = False) -> None:
    """Raise ValueError unless names make folders that differ everywhere.

    Args:
        where (str): The field, for messages.
        names (list): Of one folder.
        variants (bool): Whether ``arm+variant`` is a name.
    """
    lower: dict = {}
    for name in names:
        if name in lower.values():
            raise ValueError(
                f'{where}: the name {name!r} occurs twice, and each has a '
                'folder of its own; choose another name'
            )
        parts = str(name).split('+', 1) if variants else [name]
        fits = all(isinstance(p, str) and _NAME.fullmatch(p) for p in parts)
        if not fits or len(str(name)) > _LONGEST or str(name).endswith('.'):
            raise ValueError(
                f'{where}: the name {name!r} becomes a folder; use at most '
                f'{_LONGEST} letters a-z, digits, ".", "-" and "_", and begin '
                'with a letter or a digit (in quotes, if it looks like a '
                'number)'
            )
        other = lower.setdefault(str(name).lower(), name)
        if other != name:
            raise ValueError(
                f'{where}: the names {other!r} and {name!r} are one folder '
                'where upper case does not count; choose another name'
            )


def check_options(where: str, options: Any) -> dict:
    """Options as of ``--cfg-options``; None means none.

    Raises:
        ValueError: If they are no mapping of dotted names to plain values.
    """
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ValueError(
            f'{where}={options!r} must be a mapping of options to values'
        )
    _check_plain(where, options)
    check_apart(where, options)
    return options


def check_apart(where: str, options: dict) -> None:
    """Raise ValueError if an option hides one before it.

    ``model.head`` and then ``model.head.scale`` is a part and a change of it;
    the other way round the change would be lost without a word.
    """
    names = list(options)
    for i, outer in enumerate(names):
        for name in names[:i]:
            if name.startswith(f'{outer}.'):
                raise ValueError(
                    f'{where}: the option {outer!r} hides {name!r}, which '
                    'stands before it; write it with dotted names down to '
                    'the values'
                )


def _check_plain(where: str, value: Any, depth: int = 0) -> None:
    if depth > 50:
        raise ValueError(f'{where}: is nested too deeply')
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str) or not all(key.split('.')):
                raise ValueError(
                    f'{where}: the option {key!r} must be a name such as '
                    'train_cfg.max_epochs'
                )
            _check_plain(f'{where}.{key}', part, depth + 1)
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            _check_plain(f'{where}[{i}]', part, depth + 1)
    elif isinstance(value, str) and _EXPONENT.fullmatch(value):
        raise ValueError(
            f'{where}={value!r} is text in YAML, which wants a point and a '
            f'sign in such a number; write {float(value)!r}'
        )
    elif not isinstance(value, _PLAIN) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError(
            f'{where}={value!r} must be a string, a finite number, true, '
            'false, null, a list or a mapping'
        )
