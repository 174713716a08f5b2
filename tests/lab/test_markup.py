"""Names from outside are plain text in HTML, Markdown and LaTeX."""

import html.parser
import re

import pandas as pd
from hostile_names import HOSTILE, any_text, visible
from hypothesis import example, given, settings
from markdown_it import MarkdownIt
from rich.text import Text

from u1_plugin.lab.benchmark.frames import markdown as markdown_table
from u1_plugin.lab.markup import (
    code,
    fence,
    file_name,
    label,
    latex,
    markdown,
    mathtext,
    terminal,
)
from u1_plugin.lab.markup import html as html_pages


class Reader(html.parser.HTMLParser):
    """What a page consists of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.tags.append(('comment', data))


def test_html():
    template = html_pages().from_string('<p title="{{ x }}">{{ x }}</p>')
    for name in HOSTILE:
        page = Reader(template.render(x=name))
        assert page.tags == [('p', [('title', visible(name))])]
        assert page.text == visible(name)
        page.text.encode()  # no half characters


def in_markdown(text: str) -> list:
    """Tokens of a text, those within lines after each other."""
    parser = MarkdownIt('commonmark').enable(['table', 'strikethrough'])
    found = []
    for token in parser.parse(text):
        found += token.children or [token]
    return found


@settings(max_examples=100)
@given(any_text)
@example('a_b_c')
@example('_')
@example('[1][2]')
@example('![1](x)')
@example('&#65;')
def test_markdown_inside_a_line(name):
    _check_markdown(name)


def test_markdown_of_hostile_names():
    for name in HOSTILE:
        _check_markdown(name)


def _check_markdown(name: str) -> None:
    shown = visible(name)
    for page in (f'- **a**: {markdown(name)}.', f'## t {markdown(name)} t'):
        text = [t for t in in_markdown(page) if t.type == 'text']
        kinds = {t.type for t in in_markdown(page)}
        assert kinds <= {
            *('bullet_list_open', 'list_item_open', 'paragraph_open'),
            *('bullet_list_close', 'list_item_close', 'paragraph_close'),
            *('heading_open', 'heading_close', 'strong_open', 'strong_close'),
            'text',
        }, kinds
        assert shown in ''.join(t.content for t in text)


def test_markdown_tables_keep_their_cells():
    for name in HOSTILE:
        frame = pd.DataFrame({'arm': ['first', name], name: ['1', '2']})
        tokens = in_markdown(markdown_table(frame))
        kinds = [t.type for t in tokens]
        assert kinds.count('th_open') == 2 and kinds.count('td_open') == 4
        text = [t.content for t in tokens if t.type == 'text']
        assert visible(name) in ''.join(text)


def test_code_in_markdown():
    for name in HOSTILE:
        tokens = in_markdown(f'# B {code(name)}')
        (span,) = [t for t in tokens if t.type == 'code_inline']
        assert span.content.strip() == visible(name).strip()
        block = f'{fence(name)}bash\n{name}\n{fence(name)}\n\nafter'
        kinds = [t.type for t in in_markdown(block)]
        assert kinds[0] == 'fence' and kinds.count('text') == 1


def test_usual_names_stay_as_they_are():
    for name in (
        'resnet18-narrow_1xb64_digits',
        'label-smoothing+value-0.2',
        'u1-feature',
        '+0.20 [-0.10, +0.50]',
        'AUROC against faces by softmax, %',
    ):
        assert markdown(name) == name == mathtext(name) == label(name)
        assert Text.from_markup(terminal(name)).plain == name
        assert file_name(name) == name or set(name) & set('[%')


LATEX_TEXT = re.compile(
    r'\\(?:text[a-z]+\{\}|[{}$&#%_])|\{[\[*]\}|[-\',]\{\}|[^\\{}$&#%_~^<>|"`]'
)


@settings(max_examples=100)
@given(any_text)
@example("--,,''-")
def test_latex(name):
    """Nothing but letters and the commands of letters."""
    text = latex(name)
    assert LATEX_TEXT.sub('', text) == ''
    assert not text.startswith(('[', '*'))
    assert not re.search(r"--|,,|''", text)
    assert '\n' not in text


def test_latex_keeps_what_is_written():
    assert latex('a_b 50% & é 猫') == r'a\_b 50\% \& é 猫'
    assert latex('\\x{y}') == r'\textbackslash{}x\{y\}'
    assert latex('[1] a-b--c') == '{[}1] a-b-{}-c'
