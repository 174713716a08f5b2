"""The documentation site: ``sphinx-build -W -b html docs docs/_build``.

Nothing is fetched. What the site needs is the extra ``docs`` of ``setup.cfg``.
The pages are Markdown that also reads well without the site, so a link may lead
to a file of the checkout that is no page; the site shows its text alone.
"""

import os
import re
import sys
from pathlib import Path
from typing import List

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))
os.environ.setdefault('MPLBACKEND', 'agg')

from u1_plugin.version import __version__ as release  # noqa: E402, F401

project = 'u1_plugin'
author = copyright = 'The u1_plugin contributors'
extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
# The notebook writes the last two.
exclude_patterns = ['_build', 'data', 'work_dirs']
# Pages of costs begin with a sentence.
suppress_warnings = ['myst.header']

# Anchors of headings, for links such as `method.md#options`.
myst_heading_anchors = 4
# A test runs the notebook; the site shows what it last gave.
nb_execution_mode = 'off'

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings tell types, and shapes as well
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are documented once
napoleon_use_rtype = False
html_theme = 'furo'
html_title = f'u1_plugin {release}'

_LINK = re.compile(r'(?<!!)\[([^\]\[]*)\]\(([^)#:\s]+)\)')


def _without_outer_links(app, page: str, source: List[str]) -> None:
    """Leave the text of links to files that are not part of the site."""
    folder = (DOCS / page).parent

    def replace(match: 're.Match[str]') -> str:
        text, target = match.groups()
        place = (folder / target).resolve()
        outside = DOCS not in [place, *place.parents]
        # A link that leads nowhere stays, and Sphinx warns of it.
        return text if outside and place.exists() else match[0]

    source[0] = _LINK.sub(replace, source[0])


def _with_stars(app, what, name, obj, options, lines: List[str]) -> None:
    """Napoleon takes the stars of the first name alone for no markup."""
    lines[:] = [line.replace(':param **', r':param \*\*') for line in lines]


def setup(app) -> None:
    app.connect('source-read', _without_outer_links)
    app.connect('autodoc-process-docstring', _with_stars)
