"""Banks larger than the memory are filled, searched and reduced."""

import json
import re
import subprocess
import sys

import pytest
from bank_files import some_pixels
from twins import load_tool

from u1_plugin.memory import bank_on_disk


def test_the_filling_is_timed_beside_the_forward_pass(
    tmp_path, monkeypatch, capsys
):
    """Three turns of all arms, which do not always begin with the same."""
    tool, begun = load_tool('benchmarks/memory_fill.py'), []
    run = tool.epoch

    def noted(model, batches, arm, folder):
        begun.append((arm, len(batches)))
        return run(model, batches, arm, folder)

    monkeypatch.setattr(tool, 'epoch', noted)
    options = [*('--images', '5'), *('--batch', '2'), *('--size', '32')]
    options += [*('--turns', '3'), *('--folder', str(tmp_path))]
    out = tmp_path / 'out.json'
    monkeypatch.setattr(sys, 'argv', ['fill', *options, '--out', str(out)])
    tool.main()
    records = json.loads(out.read_text())
    assert [set(record) for record in records] == [set(tool.ARMS)] * 3
    assert all(min(record.values()) > 0 for record in records)
    warm, turns = begun[:3], [begun[n : n + 3] for n in (3, 6, 9)]
    assert warm == [(arm, 1) for arm in tool.ARMS]
    for turn in turns:
        assert sorted(turn) == sorted((arm, 3) for arm in tool.ARMS)
    assert len({turn[0] for turn in turns}) > 1
    assert [file.name for file in tmp_path.iterdir()] == ['out.json']
    assert 'of the forward rate' in capsys.readouterr().out


@pytest.mark.parametrize(
    'args, words',
    [
        (['--depth', '7'], 'argument --depth: invalid choice: 7'),
        (['--turns', '0'], "--turns: '0' must be an integer >= 1"),
        (['--folder', 'none'], '--folder none is no folder'),
    ],
)
def test_misuse_of_the_filling_is_named(args, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['fill', *args])
    with pytest.raises(SystemExit):
        load_tool('benchmarks/memory_fill.py').main()
    assert words in capsys.readouterr().err


LIMIT = 'tools/benchmarks/memory_limit.py'
SIZES = ['--pixels', '200000', '--channels', '256', '--queries', '32']


@pytest.mark.skipif(sys.platform != 'linux', reason='a limit of Linux')
def test_a_bank_of_twice_the_memory_is_filled_searched_and_reduced(
    root, environment, tmp_path, monkeypatch
):
    room = 96  # MiB; some 60 are needed
    sizes = [*SIZES, '--dtype', 'float32', '--folder', str(tmp_path)]

    # Or the C library keeps what is freed, as much as it happens to.
    environment = dict(environment, MALLOC_MMAP_THRESHOLD_='65536')

    def run(*options: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(root / LIMIT), *sizes, *options]
        command += ['--room', str(room), '--out', str(tmp_path / 'out.json')]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True
        )

    # What is in memory does not fit.
    done = run('--in-memory')
    full = "can't allocate memory|Unable to allocate|MemoryError"
    assert done.returncode and re.search(full, done.stderr), done.stderr
    assert not list(tmp_path.iterdir())
    done = run()
    assert not done.returncode, done.stderr[-3000:]
    found = json.loads((tmp_path / 'out.json').read_text())
    assert found['bytes'] >= 2 * room * 2**20
    steps = ['fill', 'open', 'search', 'coreset']
    assert [step['step'] for step in found['steps']] == steps
    # Without a limit, the same in memory.
    tool = load_tool('benchmarks/memory_limit.py')
    monkeypatch.setattr(sys, 'argv', [LIMIT, *sizes, '--in-memory'])
    expected = tool.measure(tool.parse_args(), tmp_path)
    for name in ('pixels', 'indices', 'distances', 'classes', 'coreset'):
        assert found[name] == expected[name]


LOADED = """
import resource, sys
from u1_plugin.memory import MemoryBank
with open('/proc/self/status') as lines:
    taken = next(int(x.split()[1]) for x in lines if x.startswith('VmData'))
bound = taken * 1024 + 4 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
MemoryBank.load(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='a limit of Linux')
def test_a_bank_that_does_not_fit_names_the_remedy(tmp_path, root, environment):
    file = tmp_path / 'bank.safetensors'
    with bank_on_disk(file) as bank:
        for seed in range(8):
            bank.append(some_pixels(10_000, 64, seed))
    done = subprocess.run(
        [sys.executable, '-c', LOADED, str(file)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert 'MemoryError' in done.stderr and 'mmap=True' in done.stderr
