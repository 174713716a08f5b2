"""Names and options as others may write them."""

import re
from html.parser import HTMLParser

from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from rich.text import Text
from strategies import (
    COUNT,
    JUNK,
    NON_NEGATIVE,
    SEED,
    SHARE,
)

from u1_plugin.lab import markup

SIZES = dict(num_classes=COUNT, in_channels=COUNT, loss_weight=NON_NEGATIVE)
LOSSES = dict(
    CenterLoss=dict(SIZES, rate=SHARE),
    HypersphericalPrototypeLoss=dict(SIZES, seed=SEED),
    RandomPlaneLoss=dict(SIZES, seed=SEED),
)


NAMES = st.text(max_size=20) | st.lists(
    st.sampled_from(
        [
            *('<script>', '&lt;', '$x$', '\\', '`', '|', '_a_', '*', '[red]'),
            *(']', '\n', '\r', '\x1b[31m', '\u202e', '=1+1', "'", ':smile:'),
            *('%', '#', '~', '^', '{', '}', '../', '\0', '\ud800', 'ä', ' '),
        ]
    ),
    max_size=5,
).map(''.join)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text = [], ''

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)

    def handle_data(self, data) -> None:
        self.text += data


@fuzz('lab.markup', name=NAMES)
def test_markup(name):
    plain = attempt(lambda: markup.plain(name))
    assert '\x1b' not in plain and '\n' not in plain and '\0' not in plain
    page = _Page()
    template = markup.html().from_string('<p>{{ name }}</p>')
    page.feed(attempt(lambda: template.render(name=name)))
    page.close()
    assert page.tags == ['p'] and page.text == plain
    shown = attempt(lambda: markup.terminal(name))
    assert Text.from_markup(shown).plain == plain
    latex = attempt(lambda: markup.latex(name))
    assert not re.search(r'(?<!\\)[$&#%_]', latex)
    assert latex.count('{') - latex.count(r'\{') >= 0
    assert not re.search(r'(?<!\\)[|`]', attempt(lambda: markup.markdown(name)))
    file = attempt(lambda: markup.file_name(name))
    assert file not in ('', '.', '..') and '/' not in file and len(file) < 200


@fuzz('lab.markup.file_name', first=NAMES, second=NAMES)
def test_different_names_are_different_files(first, second):
    same = markup.file_name(first) == markup.file_name(second)
    assert same == (first == second)


@fuzz('options.checked', value=JUNK, kind=st.sampled_from([COUNT, SEED, SHARE]))
def test_options(value, kind):
    from u1_plugin.options import Count, Seed, Share, checked

    hint = {COUNT: Count, SEED: Seed, SHARE: Share}[kind]

    def take(k):
        return k

    take.__annotations__['k'] = hint
    wrong = {} if kind.is_right(value) else dict(k=value)
    found = attempt(lambda: checked('head')(take)(k=value), wrong)
    assert found is REFUSED or found == value
