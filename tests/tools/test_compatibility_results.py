"""What records of test runs say: the table, the comparison, what pip says."""

import subprocess
import sys

import compatibility_cells as environments
import compatibility_logs as logs
import compatibility_results as results
import pytest
from compatibility_records import CELL, record, rows
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.sampled_from('ab|`*_[]<\\é $'), min_size=1, max_size=8)
NAMES = st.sampled_from([*environments.CELLS, 'dropped-newest-3.8'])


@st.composite
def records(draw) -> dict:
    cell, tests = draw(NAMES), draw(st.lists(TEXT, max_size=2))
    failing = draw(st.lists(TEXT, max_size=5, unique=True))
    kinds = ['failed'] if failing else ['passed', 'broken', 'no wheels']
    kind = draw(st.sampled_from(kinds))
    values = dict(outcome=kind, failing=failing, failed=len(failing))
    if kind in ('broken', 'no wheels'):
        values.update(reason=draw(TEXT))
    return record(cell, tests, passed=draw(st.integers(0, 9999)), **values)


@given(st.lists(records(), min_size=1, max_size=8))
def test_the_table_has_each_cell_and_selection_once(found):
    text = results.table(found, list(environments.CELLS))
    *_, not_run = text.partition('Not run: ')
    body = rows(text)
    last = {(one['cell'], tuple(one['tests'])): one for one in found}
    assert len(body) == len(last)
    for cells in body:
        named = cells[0].split(' ')[0]
        assert named in {cell for cell, _ in last}
    assert sorted((c[0].split(' ')[0], c[-1].split(':')[0]) for c in body) == (
        sorted((one['cell'], one['outcome']) for one in last.values())
    )
    passed = sorted(
        str(one['passed']) if not one['reason'] else '' for one in last.values()
    )
    assert sorted(cells[-7] for cells in body) == passed
    order = [c[0].split(' ')[0] for c in body]
    known = [name for name in order if name in environments.CELLS]
    assert known == sorted(known, key=list(environments.CELLS).index)
    assert order[: len(known)] == known  # dropped cells come last
    assert set(not_run.rstrip('.').split(', ')) == set(
        environments.CELLS
    ) - set(known)


def test_a_row_names_three_failing_tests():
    names = [f'tests/test_a.py::test_{i}[a|b]' for i in range(5)]
    one = record(outcome='failed', failed=5, failing=names)
    (cells,) = rows(results.table([one], []))
    assert cells[-1] == f'failed: {", ".join(names[:3])} and 2 more'
    assert cells[1:3] == ['3.11.7', '2.8.0'] and cells[-3] == '2'
    assert cells[-2] == one['date']


@given(records(), st.booleans())
def test_a_cell_is_done_while_its_versions_stay(one, changed):
    versions = dict(one['versions'])
    if changed:
        versions['torch'] = '2.99'
    ended = one['outcome'] in ('passed', 'failed')
    assert results.is_done(one, versions) == (ended and not changed)
    assert not results.is_done(None, versions)


@given(st.sets(TEXT), st.sets(TEXT))
def test_news_are_the_tests_that_fail_now_and_did_not(before, now):
    packages = dict(python='3.11.7', numpy='2.9', torch='2.8.0')
    old = record(failing=sorted(before), packages=dict(packages, numpy='2.8'))
    new = record(failing=sorted(now), packages=packages)
    found = results.news(new, old)
    fails = {line[13:] for line in found.lines if line[:13] == '  fails now: '}
    assert fails == now - before and found.worse == bool(now - before)
    changed = [line for line in found.lines if line[:11] == '  changed: ']
    assert changed == ['  changed: numpy 2.8 -> 2.9'] * found.worse


def test_what_fails_and_why_tests_are_skipped():
    failing = dict(messages={'test_a.py::b[x|y]': 'assert 0 *'})
    skips = dict(skips={'no timm_tasks': 2, 'no GPU': 1})
    early = record(messages=dict(old='gone'), skips={})
    early['cell'] = 'onedl-oldest-3.9'
    found = [early, record(**failing, **skips)]
    found.append(record('onedl-oldest-3.9', skips={'no GPU': 3}))
    found.append(record(tests=['-k', 'a']))  # of before, without messages
    lines = results.details(found, list(environments.CELLS)).split('\n')
    assert lines[:4] == [
        '',
        'What fails:',
        '',
        f'- {CELL}: `test_a.py::b[x|y]`: assert 0 \\*',
    ]
    assert lines[-2:] == [
        f'- no GPU: onedl-oldest-3.9 3, {CELL} 1',
        f'- no timm_tasks: {CELL} 2',
    ]
    news = results.news(dict(found[1], failing=['test_a.py::b[x|y]']), None)
    assert news.lines[2:] == [
        '  fails now: test_a.py::b[x|y]',
        '    assert 0 *',
    ]
    assert results.details([record()], []) == ''


def test_news_of_runs_that_did_not_end():
    stopped = record(outcome='broken', reason='stopped after 3 hours')
    assert results.news(stopped, record()).worse
    assert not results.news(stopped, stopped).worse
    gone = record(**results.not_run('no wheels', 'No matching distribution'))
    gone['packages'] = {}
    found = results.news(gone, record())
    assert found.worse
    assert found.lines[1] == '  new: no wheels: No matching distribution'
    assert not results.news(gone, gone).worse
    assert results.news(record(failing=['a']), None).worse


def test_what_pip_says_is_missing():
    said = (
        'ERROR: Ignored the following versions\n'
        'ERROR: Could not find a version that satisfies numpy==2.0.2\n'
        'ERROR: No matching distribution found for numpy==2.0.2\n\n'
    )
    line = 'No matching distribution found for numpy==2.0.2'
    assert logs.pip_line(said) == line
    conflict = (
        'ERROR: Cannot install x because these have conflicting dependencies.\n'
        '\nThe conflict is caused by:\n    x depends on torch>=2\n'
        '    The user requested (constraint) torch==1\n\n'
        'To fix this you could try to:\nERROR: ResolutionImpossible: for help\n'
    )
    assert logs.pip_line(conflict) == (
        'x depends on torch>=2; The user requested (constraint) torch==1'
    )
    # One that fits, and of which there is none: not a conflict.
    missing = conflict.replace('torch>=2', 'torch>=1')
    assert logs.pip_line(missing) == 'torch 1 has no wheel for this Python'
    other = missing.replace('torch==1', 'torch==1.13')
    assert logs.pip_line(other).endswith('(constraint) torch==1.13')
    with pytest.raises(ConnectionError, match='no connection'):
        logs.pip_line(f'WARNING: Retrying (Retry(total=4)) after\n{said}')


def test_outcomes_of_a_real_run(tmp_path):
    (tmp_path / 'test_a.py').write_text(
        'import pytest\n'
        '@pytest.fixture\ndef broken():\n'
        f"    raise ValueError('in {tmp_path}/a/b at 0x7f12345678')\n"
        "@pytest.mark.parametrize('x', ['a|b', 'c'])\n"
        'def test_passes(x): pass\n'
        "def test_fails(): assert 0, 'long ' * 30 + '\\nand more ' * 20\n"
        'def test_errs(broken): pass\n'
        "def test_skips(): pytest.skip('no parts')\n"
    )
    (tmp_path / 'test_b.py').write_text('import no_such_module')
    (tmp_path / 'decorator.py').write_text(
        'def twice(test):\n'
        '    def test_same(): test(), test()\n'
        '    return test_same\n'
    )
    # Of both, pytest's report names the decorator's file.
    for module in ('test_c', 'test_d'):
        (tmp_path / f'{module}.py').write_text(
            'from decorator import twice\n@twice\ndef test_same(): pass\n'
            'class TestMore:\n    def test_same(self): pass\n'
        )
    report = tmp_path / 'report.xml'
    command = [sys.executable, '-m', 'pytest', '-q', f'--junitxml={report}']
    command += ['-o', 'junit_family=xunit1', '--continue-on-collection-errors']
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    found = logs.outcomes(report, f'{tmp_path}/')
    assert done.returncode == 1
    assert {kind: set(tests) for kind, tests in found.items()} == dict(
        passed={
            *('test_a.py::test_passes[a|b]', 'test_a.py::test_passes[c]'),
            *('test_c.py::test_same', 'test_c.py::TestMore::test_same'),
            *('test_d.py::test_same', 'test_d.py::TestMore::test_same'),
        },
        failed={'test_a.py::test_fails'},
        errors={'test_a.py::test_errs', 'test_b.py::test_b'},
        skipped={'test_a.py::test_skips'},
    )
    assert set(found['passed'].values()) == {''}
    message = found['failed']['test_a.py::test_fails']
    assert message.startswith(f'AssertionError: {"long " * 30}')
    assert message.endswith('...') and '\n' not in message
    assert 'ValueError: in a/b at 0x...' in str(found['errors'])
    assert found['skipped'] == {'test_a.py::test_skips': 'no parts'}
