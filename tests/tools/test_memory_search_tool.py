"""The benchmark of the search engines, as a command."""

import json
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch

from u1_plugin.lab.alternation import order_of

pytest.importorskip('faiss')

ENGINES = ['product', 'exact', 'cdist', 'faiss:IVF{cells},Flat@0.5']
COUNT, QUERIES, REPEAT = 900, 16, 5


def run(root, environment, folder, *arguments):
    """The records, and what was printed."""
    done = subprocess.run(
        [
            *(sys.executable, str(root / 'tools/benchmarks/memory_search.py')),
            *('--sizes', str(COUNT), '--queries', str(QUERIES)),
            *('--channels', '16', '--k', '5', '--repeat', str(REPEAT)),
            *('--threads', '1', '--pause', '0', '--out', 'out.json'),
            *arguments,
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return json.loads((folder / 'out.json').read_text()), done.stdout


@pytest.fixture(scope='module')
def apart(root, environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp('apart')
    return run(root, environment, folder, '--engines', *ENGINES)


@pytest.fixture(scope='module')
def together(root, environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp('together')
    engines = [*ENGINES[:3], 'exact:bfloat16', 'product:tf32']
    return run(
        root, environment, folder, '--one-process', '--engines', *engines
    )


@pytest.mark.parametrize('way', ['apart', 'together'])
def test_repetitions_alternate(way, request):
    records, _ = request.getfixturevalue(way)
    turns = [
        dict(turn, engine=record['engine'])
        for record in records
        for turn in record['turns']
    ]
    names = [record['engine'] for record in records]
    assert len(turns) == REPEAT * len(names)
    turns.sort(key=lambda turn: turn['start'])
    for number, turn in enumerate(turns):
        round_, place = divmod(number, len(names))
        assert (turn['round'], turn['place']) == (round_, place)
        assert turn['engine'] == order_of(names, round_)[place]
    # One at a time.
    for turn, after in zip(turns, turns[1:]):
        assert turn['start'] + turn['seconds'] <= after['start']


@pytest.mark.parametrize('way', ['apart', 'together'])
def test_ratios_are_those_to_the_product(way, request):
    records, printed = request.getfixturevalue(way)
    own = {r['engine']: r for r in records}
    seconds = [turn['seconds'] for turn in own['product']['turns']]
    for engine, record in own.items():
        assert record['failed'] is None and record['count'] == COUNT
        assert engine[:9] in printed
        times = [turn['seconds'] for turn in record['turns']]
        assert record['rates'] == pytest.approx([QUERIES / t for t in times])
        wanted = [p / t for p, t in zip(seconds, times)]
        assert record['ratios'] == pytest.approx(wanted)
    assert own['product']['ratios'] == pytest.approx([1.0] * REPEAT)


def test_recall_is_that_of_the_exact_neighbours(apart):
    own = {r['engine']: r for r in apart[0]}
    assert own['product']['recall'] is None  # it finds nothing
    assert own['exact']['recall'] == 1
    assert own['cdist']['recall'] > 0.99
    assert 0.25 < own[ENGINES[3]]['recall'] < 1
    assert all(r['extra'] > -1 for r in own.values())


def test_in_one_process_no_peak_is_an_engine_s_own(together):
    records, printed = together
    assert [r['extra'] for r in records] == [None] * 4
    assert [r['recall'] for r in records][1::2] == [1, 1]
    assert 'product:tf32 is left out: TF32 is of GPUs' in printed


def load(root, name):
    """The tool, or the module beside it."""
    sys.path.insert(0, str(root / 'tools/benchmarks'))
    try:
        return import_module(name)
    finally:
        sys.path.pop(0)


@pytest.fixture(scope='module')
def engines(root):
    return load(root, 'search_engines')


def test_vectors_lie_about_centres_that_queries_share(engines):
    memory = torch.cat(list(engines.drawn(400, 64, 400, 0, 'cpu')))
    asked = torch.cat(list(engines.drawn(50, 64, 400, 1, 'cpu')))
    again = engines.fill(torch.empty(400, 64), 'cpu')
    assert torch.equal(memory, again)
    torch.testing.assert_close(memory.norm(dim=1), torch.ones(400))
    # Of 20 vectors about its centre and 380 others.
    near = (asked @ memory.T).sort(dim=1, descending=True).values
    assert (near[:, 5] > 0.4).all() and (near[:, 60] < 0.4).all()


def test_an_engine_that_does_not_run_says_why(engines):
    assert engines.lacks('exact:float16', 'cuda') is None
    assert engines.lacks('product:tf32', 'cuda') is None
    assert 'cuda' in engines.lacks('sklearn', 'cuda')
    with pytest.raises(ValueError, match="--engines exat: .*'exat'.*exact"):
        engines.lacks('exat', 'cpu')
    with pytest.raises(ValueError, match='--engines product:half: give tf32'):
        engines.lacks('product:half', 'cpu')


def test_recall_is_that_of_an_exact_engine_that_ran(root, engines):
    tool = load(root, 'memory_search')
    found = np.array([[0, 1], [2, 3]])
    records = [
        dict(engine='exact', found=None),
        dict(engine='exact:float16', found=found),
        dict(engine='usearch', found=np.array([[1, 5], [2, 3]])),
    ]
    tool.add_recall(records)
    assert [record['recall'] for record in records] == [None, 1.0, 0.75]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--engines', 'exat'], "no 'exat'"),
        (['--k', str(COUNT + 1)], f'--k {COUNT + 1} is more than --sizes'),
        (['--k', '0'], "--k: '0' must be an integer >= 1"),
        (['--repeat', '0'], "--repeat: '0' must be an integer >= 1"),
        (['--queries', '0'], "--queries: '0' must be an integer >= 1"),
        (['--pause', '-1'], "--pause: '-1' must be a finite number >= 0"),
    ],
)
def test_misuse_is_told_at_once(root, arguments, message, capsys):
    tool = load(root, 'memory_search')
    with pytest.MonkeyPatch.context() as patch:
        line = ['tool', '--sizes', str(COUNT), *arguments]
        patch.setattr(sys, 'argv', line)
        with pytest.raises(SystemExit):
            tool.main()
    assert message in capsys.readouterr().err


def test_an_engine_named_twice_runs_once(root, environment, tmp_path):
    records, _ = run(
        root, environment, tmp_path, '--engines', 'exact', 'product', 'exact'
    )
    assert [record['engine'] for record in records] == ['exact', 'product']
