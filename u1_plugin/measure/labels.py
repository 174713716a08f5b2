"""What names and marks the classes in pictures.

Classes, layers and files are named by others. In a picture, such a name is
what it says: no formula, no command, no hidden legend.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Any, Dict, FrozenSet, Set, Tuple

#: Longer names are shortened in pictures, characters.
_WIDTH = 40

#: Ten colours that colour-blind readers tell apart (Paul Tol, "muted", and
#: black); a class also has its own marker, for print and for more classes.
COLORS = (
    '#332288',
    '#88CCEE',
    '#44AA99',
    '#117733',
    '#999933',
    '#DDCC77',
    '#CC6677',
    '#882255',
    '#AA4499',
    '#000000',
)
MARKERS = ('o', 's', '^', 'v', 'D', 'P', 'X', '<', '>', '*', 'p', 'h')


def class_style(index: int) -> Dict[str, str]:
    """Colour and marker of a class."""
    return dict(
        color=COLORS[index % len(COLORS)], marker=MARKERS[index % len(MARKERS)]
    )


def plain(text: Any) -> str:
    """Text on one line, of characters that only stand for themselves.

    White space becomes single blanks. What controls terminals, changes the
    direction of writing or is no character at all becomes ``\ufffd``.
    """
    line = ' '.join(str(text).split())
    if line.isascii() and line.isprintable():
        return line
    return ''.join('\ufffd' if _controls(char) else char for char in line)


def _controls(char: str) -> bool:
    kind = unicodedata.category(char)
    # Joiners of letters and emojis are harmless, though of kind Cf.
    return kind in ('Cc', 'Cs', 'Zl', 'Zp') or (
        kind == 'Cf' and unicodedata.bidirectional(char) != 'BN'
    )


def shortened(text: str, width: int = _WIDTH) -> str:
    """Text with an ellipsis in its middle if it is longer than ``width``."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f'{text[: width - 1 - tail]}…{text[len(text) - tail :]}'


def mathtext(text: Any, width: int = _WIDTH) -> str:
    r"""Text as matplotlib shows it literally.

    Dollar signs begin no formula, characters that the font lacks become
    escapes such as ``\u732b``, and long text is shortened.
    """
    from matplotlib import rcParams

    families = rcParams['font.family'], rcParams['font.sans-serif']
    code_points = _glyphs(*map(tuple, families))
    literal = ''.join(
        char
        if ord(char) in code_points
        else char.encode('unicode_escape').decode('ascii')
        for char in shortened(plain(text), width)
    )
    return literal.replace('$', r'\$')


def label(text: Any, width: int = _WIDTH) -> str:
    """The same for a legend, which hides empty names and those with ``_``."""
    text = mathtext(text, width) or '(no name)'
    return re.sub('^(?=_)', ' ', text)


@lru_cache(maxsize=8)
def _glyphs(*families: Tuple[str, ...]) -> FrozenSet[int]:
    """Code points of the fonts that matplotlib uses under these settings."""
    from matplotlib import font_manager, rcParams

    code_points: Set[int] = set()
    for family in rcParams['font.family']:
        properties = font_manager.FontProperties(family=[family])
        file = font_manager.findfont(properties)
        code_points.update(font_manager.get_font(file).get_charmap())
    return frozenset(code_points)
