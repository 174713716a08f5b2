"""Names from outside as plain text of pages, tables and terminals.

Classes, files, arms and suites are named by others: such a name is text
wherever it is shown, and neither markup nor command. HTML is left to jinja's
escaping, with :func:`plain` before it.
"""

import re
from hashlib import sha256
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from ..extras import needs
from ..measure.labels import label, mathtext, plain, shortened

with needs('lab'):
    import jinja2
    import pandas as pd
    from rich.emoji import Emoji

__all__ = [
    'code',
    'csv_frame',
    'fence',
    'file_name',
    'from_csv',
    'html',
    'label',
    'latex',
    'link',
    'markdown',
    'mathtext',
    'plain',
    'shortened',
    'terminal',
]

#: Rich shows nothing for it, and joins nothing across it.
_NOTHING = '[none][/none]'
_LATEX = {
    '\\': r'\textbackslash{}',
    '{': r'\{',
    '}': r'\}',
    '$': r'\$',
    '&': r'\&',
    '#': r'\#',
    '%': r'\%',
    '_': r'\_',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '<': r'\textless{}',
    '>': r'\textgreater{}',
    '|': r'\textbar{}',
    '"': r'\textquotedbl{}',
    '`': r'\textasciigrave{}',
}


def latex(text: Any) -> str:
    """Text of LaTeX, outside of formulas."""
    text = ''.join(_LATEX.get(char, char) for char in plain(text))
    # Two of these would be one other character.
    text = re.sub(r"([-',])(?=\1)", r'\1{}', text)
    # After a line break, these would be its options.
    return re.sub(r'^[\[*]', r'{\g<0>}', text)


def markdown(text: Any) -> str:
    """Text of Markdown inside a line or a table's cell.

    Only what would be markup there is escaped: ``a_b``, ``a - b`` and
    ``[+0.1, 0.2]`` stay as they are.
    """
    text = re.sub(r'[\\`*|~$#]', r'\\\g<0>', plain(text))
    text = re.sub(r'<(?=[A-Za-z/!?])', r'\<', text)
    text = re.sub(r'&(?=#?\w+;)', r'\&', text)
    # Within words, an underscore is one.
    text = re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\_', text)
    # An address would become a link.
    text = re.sub(r'(?i)(?<=\bwww)\.|:(?=//)', r'\\\g<0>', text)
    return re.sub(
        r'(\[[-+.,\d ]*\](?![(\[:]))|[\[\]]',
        lambda match: match[1] or f'\\{match[0]}',
        text,
    )


def code(text: Any) -> str:
    """A span of code in Markdown; in tables, escape its pipes as well."""
    text = plain(text)
    runs = [len(run) for run in re.findall('`+', text)]
    ticks = '`' * next(n for n in range(1, 99) if n not in runs)
    room = ' ' if '`' in text or not text else ''
    return f'{ticks}{room}{text}{room}{ticks}'


def fence(text: str) -> str:
    """A line of backticks that closes no block of code with this text."""
    longest = max(map(len, re.findall('`+', text)), default=0)
    return '`' * max(3, longest + 1)


def link(path: Any) -> str:
    """A relative path as an address."""
    return quote(PurePath(path).as_posix(), errors='surrogateescape')


def file_name(name: Any) -> str:
    """A name as that of a file in any folder; different names stay so.

    Args:
        name (str): Usual ones stay; other characters become ``%XX``, and what
            is long ends in a hash.
    """
    name = re.sub(
        r'[^\w .()+,=@~-]|^\.',
        lambda match: '%' + match[0].encode(errors='surrogatepass').hex('%'),
        str(name),
        flags=re.ASCII,
    )
    if len(name) > 120:
        name = f'{name[:100]}-{sha256(name.encode()).hexdigest()[:16]}'
    return name or '%'


def terminal(text: Any) -> str:
    """Text for rich's console, tables and bars."""
    text = plain(text)
    ends = r'\[|$' if Emoji.replace(text) == text else r'\[|:|$'
    # Rich's own escape forgets brackets that are closed further on, and
    # backslashes before those that are no tags.
    return re.sub(
        rf'(\\*)({ends})',
        lambda match: (
            2 * match[1]
            + _NOTHING * bool(match[1])
            + match[2]
            + _NOTHING * bool(match[2])
        ),
        text,
    )


def csv_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose text no spreadsheet takes for a formula.

    What begins like one gets an apostrophe before it, and so does what begins
    with an apostrophe: :func:`from_csv` takes it away again.
    """
    return frame.map(
        lambda cell: (
            f"'{cell}"
            if isinstance(cell, str) and cell[:1] in tuple("'=+-@\t\r\n")
            else cell
        )
    )


def from_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """The table that :func:`csv_frame` was given."""
    return frame.map(
        lambda cell: cell[1:] if str(cell).startswith("'") else cell
    )


def html() -> jinja2.Environment:
    """For pages in HTML: every value is text."""
    return jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
