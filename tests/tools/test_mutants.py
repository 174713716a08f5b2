import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mutants import mutants

SOURCE = '''"""A text with 1 + 2."""

SIZE: int = 3


def clip(value: float, low: float = 0.5, flag=True) -> float:
    """Not 4."""
    if value < low and not flag:
        raise ValueError(f'value={value} is below {low + 1}')
    _logger.info('at %d', 5)
    total = -value * max(low, 2)
    self.kept = total
    return total if flag else [v for v in value if v]


def __repr__():
    return 1 + 1
'''


def changes(source: str) -> set:
    return {(m.before, m.after) for m in mutants('a.py', source)}


def applied(mutant, source: str) -> str:
    data, (start, end) = source.encode(), mutant.span
    return (data[:start] + mutant.new.encode() + data[end:]).decode()


def test_what_changes():
    before = 'if value < low and not flag:'
    line = 'total = -value * max(low, 2)'
    assert changes(SOURCE) == {
        ('SIZE: int = 3', 'SIZE: int = 4'),
        ('SIZE: int = 3', 'SIZE: int = 2'),
        *(
            (
                'def clip(value: float, low: float = 0.5, flag=True) -> float:',
                f'def clip(value: float, low: float = {new}) -> float:',
            )
            for new in (
                '(1.5), flag=True',
                '(-0.5), flag=True',
                '0.5, flag=False',
            )
        ),
        (before, 'if False:'),
        (before, 'if True:'),
        (before, 'if (value < low or not flag):'),
        (before, 'if (value <= low) and not flag:'),
        (before, 'if (value >= low) and not flag:'),
        (before, 'if value < low and flag:'),
        ("raise ValueError(f'value={value} is below {low + 1}')", 'pass'),
        (line, 'total = (-value / max(low, 2))'),
        (line, 'total = value * max(low, 2)'),
        (line, 'total = -value * (min(low, 2))'),
        (line, 'total = -value * max(low, 3)'),
        (line, 'total = -value * max(low, 1)'),
        ('self.kept = total', 'pass'),
        *(
            (
                'return total if flag else [v for v in value if v]',
                f'return {new}',
            )
            for new in (
                'None',
                'total if True else [v for v in value if v]',
                'total if False else [v for v in value if v]',
                'total if flag else [v for v in value if True]',
                'total if flag else [v for v in value if False]',
            )
        ),
    }


@pytest.mark.parametrize(
    'name', ['nn/u1_loss', 'memory/bank', 'geometry/planes']
)
def test_every_mutant_is_another_program(root, name):
    source = (root / f'u1_plugin/{name}.py').read_text()
    whole = ast.dump(ast.parse(source))
    found = mutants(name, source)
    assert len({(m.span, m.new) for m in found}) == len(found) > 50
    for mutant in found:
        assert ast.dump(ast.parse(applied(mutant, source))) != whole


def test_what_is_listed_as_equivalent_is_a_change_of_its_file(root):
    """Or a source has changed, and the reason with it."""
    tables = root / 'tools/maintenance/mutation_test.yml'
    found: dict = {}
    for row in yaml.safe_load(tables.read_text())['equivalent']:
        name = row['file']
        if name not in found:
            changes = mutants(name, (root / name).read_text())
            found[name] = {(m.before, m.after) for m in changes}
        assert (row['before'], row['after']) in found[name], row


def test_what_is_said_to_test_a_source_is_there(root):
    tables = root / 'tools/maintenance/mutation_test.yml'
    names = [file.stem for file in (root / 'tests').rglob('test_*.py')]
    for row in yaml.safe_load(tables.read_text())['core']:
        for word in [*row['tests'], *row.get('ranks', [])]:
            assert any(n.startswith(f'test_{word}') for n in names), word


SCRIPT = 'tools/maintenance/mutation_test.py'
CHECKOUT = {
    'tools/maintenance/mutation_test.yml': (
        'warm: []\ncore:\n  - {sources: u1_plugin/sum.py, tests: [sum]}\n'
        'equivalent:\n  - {file: u1_plugin/sum.py, reason: never 0,\n'
        '     before: "return a / (b or 1)", after: "return a / (b or 2)"}\n'
    ),
    'u1_plugin/__init__.py': '',
    'u1_plugin/sum.py': (
        'def share(a, b):\n    return a / (b or 1)\n\n\n'
        'def forever(n):\n    while n > 0:\n        n -= 1\n    return n\n\n\n'
        'def unseen(a):\n    return a + 1\n'
    ),
    'tests/conftest.py': (
        'from hypothesis import settings\n'
        "settings.register_profile('mutants', max_examples=1)\n"
    ),
    'tests/test_sum.py': (
        'import pytest\n'
        'from u1_plugin.sum import forever, share\n\n'
        "@pytest.fixture(scope='module')\n"
        'def half():\n    return share(1, 2)\n\n'
        'def test_first():\n    assert forever(3) == 0\n\n'
        'def test_share(half):\n    assert half == 0.5\n\n'
        'def test_broken(half):\n    assert half == 3\n'
    ),
}


@pytest.mark.slow
def test_the_command(root, environment, tmp_path):
    """Kills, survivors, listed ones, hanging ones; a second run runs none."""
    for name, text in CHECKOUT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in (
        SCRIPT,
        'tests/reached.py',
        'tools/maintenance/mutants.py',
        'pyproject.toml',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((root / name).read_text())

    def run() -> str:
        return subprocess.run(
            [sys.executable, SCRIPT, '--jobs=1', '--limit=2'],
            cwd=tmp_path,
            env=dict(environment, PYTHONPATH=''),
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    first = run()
    assert 'fail as they are: tests/test_sum.py::test_broken' in first
    results = Path(tmp_path / 'work_dirs/mutants/results.jsonl')
    found = [json.loads(line) for line in results.read_text().splitlines()]
    outcomes = {r['after']: (r['outcome'], r['by']) for r in found}
    assert outcomes['return (a * (b or 1))'][0] == 'killed'
    assert 'test_share' in outcomes['return (a * (b or 1))'][1]
    assert outcomes['n += 1'] == ('killed', 'time limit')
    assert outcomes['return (a - 1)'] == ('survived', 'no test reaches it')
    assert 'return a / (b or 2)' not in outcomes
    assert '| u1_plugin/sum.py |' in first and ' 1 | ' in first
    assert f'{len(found) + 1} mutants, 0 to run' in run()
