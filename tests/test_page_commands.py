"""Commands that pages print name tools and options that there are."""

import re
import shlex
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    file.relative_to(ROOT).as_posix()
    for file in [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')]
    if '_build' not in file.parts
)
#: Tools whose options are those of MMPretrain's tool of the same name.
STOCK = {'train.py', 'test.py'}
STOCK_OPTIONS = {'--work-dir', '--cfg-options', '--resume', '--launcher'}
STOCK_OPTIONS |= {'--amp', '--auto-scale-lr', '--out', '--out-item', '--tta'}


def blocks(text: str) -> Iterator[str]:
    """Blocks of shell commands, whose broken lines are joined."""
    for block in re.findall(r'^```bash\n(.*?)^```', text, re.M | re.S):
        yield block.replace('\\\n', ' ')


def variables(block: str) -> Dict[str, str]:
    """What a block sets, of names in capitals."""
    return dict(re.findall(r'^([A-Z]+)=(\S+)$', block, re.M))


def commands(text: str) -> Iterator[Tuple[str, List[str]]]:
    """Tools of this repository that blocks call, and their words."""
    for block in blocks(text):
        for name, value in variables(block).items():
            block = re.sub(rf'\$({name}\b|{{{name}}})', value, block)
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            for number, word in enumerate(words):
                if re.fullmatch(r'tools/[\w/.-]+\.(py|sh)', word):
                    yield word, words[number + 1 :]
                    break


def options(tool: Path) -> set:
    """Options that a tool's source, or what it shares with others, names."""
    shared = (ROOT / 'u1_plugin/lab').glob('*.py')
    texts = [file.read_text() for file in (tool, *shared)]
    return set(re.findall(r"'(--[a-z][\w-]*)'", ' '.join(texts)))


@pytest.mark.parametrize('page', PAGES)
def test_tools_and_options_are_there(page):
    for name, words in commands((ROOT / page).read_text(encoding='utf-8')):
        tool = ROOT / name
        assert tool.is_file(), f'{page}: {name}'
        if tool.suffix == '.sh':
            continue
        known = STOCK_OPTIONS if tool.name in STOCK else options(tool)
        for word in words:
            option = word.partition('=')[0]
            if word == '--':  # what follows is of another program
                break
            if option.startswith('--'):
                assert option in {*known, '--help'}, f'{page}: {name} {option}'
            unset = re.search(r'\$\{?[A-Z]', word)
            assert not unset, f'{page}: {name} {word} is not set there'


def test_the_pages_have_commands():
    """Else the test above finds nothing."""
    texts = [(ROOT / page).read_text(encoding='utf-8') for page in PAGES]
    assert len({name for text in texts for name, _ in commands(text)}) > 20
