"""Queries a second and peak memory of search engines, in alternation.

All engines of a size are there at once, on a CPU each in a process of its own:
one searches while the others wait, in an order that rotates and turns. A ratio
is that to the bare matrix product of queries and vectors in the same round,
which no exact search in the same precision can beat.

The vectors are unit vectors about sqrt(N) centres: without clusters an
approximate index has nothing to go by. ``exact`` is this package's engine and
``exact:float16`` the one with narrow products; ``faiss:FACTORY`` is its faiss
engine, where ``{cells}`` stands for the power of 2 nearest to 4 sqrt(N) and
``@0.95`` asks for a recall; ``IndexFlatIP`` is faiss alone. Recall is the
share of the exact k nearest that an engine finds for the queries.

The peak is what an engine takes beyond one copy of the vectors, in units of
their bytes, as Linux or CUDA counts it. On a GPU all engines share one process,
float32 means no TF32, and ``product:tf32`` and ``product:float16`` say what
narrower arithmetic gives.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from rich.console import Console
from rich.table import Table

from u1_plugin.files import new_file, new_path
from u1_plugin.lab.alternation import (
    Failure,
    OtherProcess,
    alternate,
    attempt,
    paired,
    spread,
)
from u1_plugin.lab.command import at_least, number
from u1_plugin.options import NonNegative

sys.path.insert(0, str(Path(__file__).parent))  # of who runs this by its path

from search_engines import (  # noqa: E402
    ENGINES,
    Contestant,
    Data,
    fill,
    lacks,
    on_its_own,
)


def measured(
    engines: List[str], run: Callable, report: Callable, options
) -> List[dict]:
    """Records of engines that are ready, without what they lack in common."""
    failed: Dict[str, str] = {}

    def turn(engine: str, _: int) -> Optional[Tuple[float, float]]:
        times = run(engine)
        if isinstance(times, Failure):
            failed[engine] = times.reason
            return None
        return times

    turns = alternate(engines, turn, options.repeat, options.pause)
    records = []
    for engine in engines:
        engine_turns = turns[engine]
        record = dict(engine=engine, failed=failed.get(engine))
        record['turns'] = [t._asdict() for t in engine_turns]
        record['rates'] = [options.queries / t.seconds for t in engine_turns]
        record['ratios'] = paired(engine_turns, turns.get('product', []))
        if engine not in failed:
            details = report(engine)
            if isinstance(details, Failure):
                details = dict(failed=details.reason)
            record.update(details)
        records.append(record)
    return records


def apart(count: int, engines: List[str], options) -> List[dict]:
    """Each engine in a process of its own, on vectors that all of them map."""
    processes: Dict[str, OtherProcess] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / 'vectors')
        size = count * options.channels
        vectors = torch.from_file(file, shared=True, size=size)
        fill(vectors.view(count, -1), options.device)
        del vectors
        try:
            for engine in engines:
                arguments = (engine, file, count, options)
                processes[engine] = OtherProcess(on_its_own, *arguments)
            return measured(
                engines,
                lambda engine: (
                    processes[engine].made or processes[engine].ask('run')
                ),
                lambda engine: processes[engine].ask('report'),
                options,
            )
        finally:
            for process in processes.values():
                process.close()


def together(count: int, engines: List[str], options) -> List[dict]:
    """All engines in this process, as a GPU needs it."""
    vectors = torch.empty(count, options.channels, device=options.device)
    data = Data(fill(vectors, options.device), options)
    ready: Dict[str, Any] = {}
    for engine in engines:
        ready[engine] = attempt(lambda e=engine: Contestant(e, data, options))

    def run(engine: str) -> Any:
        contestant = ready[engine]
        return (
            contestant
            if isinstance(contestant, Failure)
            else attempt(contestant.run)
        )

    records = measured(
        engines, run, lambda engine: ready[engine].report(), options
    )
    if options.device == 'cpu':
        for record in records:
            record['extra'] = None  # the process' peak is of all of them
    return records


def settings(options: argparse.Namespace) -> Dict[str, Any]:
    """What all records have in common."""
    names = ('device', 'threads', 'channels', 'queries', 'k')
    common = {name: getattr(options, name) for name in names}
    common['torch'] = torch.__version__
    common['float32_matmul_precision'] = torch.get_float32_matmul_precision()
    if options.device == 'cuda':
        common['gpu'] = torch.cuda.get_device_name()
    return common


def add_recall(records: List[dict]) -> None:
    """In the place of what was found: the share of the exact neighbours."""
    neighbours = [record.pop('found', None) for record in records]
    exact = [
        indices
        for record, indices in zip(records, neighbours)
        if record['engine'].partition(':')[0] == 'exact' and indices is not None
    ]
    for record, indices in zip(records, neighbours):
        record['recall'] = None
        if indices is not None and exact:
            same = indices[:, :, None] == exact[0][:, None]
            record['recall'] = float(same.any(1).mean())


def benchmark(options: argparse.Namespace) -> List[dict]:
    """One record a size and engine."""
    engines = [e for e, reason in options.lacking.items() if not reason]
    for engine, reason in options.lacking.items():
        if reason:
            print(f'{engine} is left out: {reason}')
    records, common = [], settings(options)
    one_process = options.device == 'cuda' or options.one_process
    for count in options.sizes if engines else ():
        new_records = (together if one_process else apart)(
            count, engines, options
        )
        gc.collect()
        add_recall(new_records)
        records += [
            dict(record, count=count, **common) for record in new_records
        ]
    return records


def show(records: List[dict], k: int, console: Console) -> None:
    """Medians, with quartiles."""
    table = Table(
        *('vectors', 'engine', 'queries/s', 'quartiles', 'ratio'),
        'quartiles',
        *(f'recall@{k}', 'extra', 'build s'),
    )
    for r in records:
        cells = [f'{r["count"]:,}', r['engine']]
        if r['failed']:
            table.add_row(*cells, 'failed', r['failed'])
            continue
        for values, form in ((r['rates'], ',.1f'), (r['ratios'], '.3f')):
            if values:
                _, low, middle, high, _ = spread(values)
                low, middle, high = (
                    format(v, form) for v in (low, middle, high)
                )
                cells += [middle, f'{low}..{high}']
            else:
                cells += ['', '']
        for value, form in (
            ('recall', '.4f'),
            ('extra', '.2f'),
            ('build', '.1f'),
        ):
            cells.append('' if r[value] is None else format(r[value], form))
        table.add_row(*cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Queries a second and peak memory of the search engines'
    )
    count = at_least(1)
    parser.add_argument(
        '--sizes', type=count, nargs='+', default=[10**4, 10**5, 10**6]
    )
    parser.add_argument('--engines', nargs='+', help='see above')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument(
        '--one-process', action='store_true', help='as on a GPU; no peaks'
    )
    parser.add_argument('--channels', type=count, default=512)
    parser.add_argument('--queries', type=count, default=128)
    parser.add_argument('--k', type=count, default=10)
    parser.add_argument('--repeat', type=count, default=5)
    parser.add_argument(
        '--pause',
        type=number(NonNegative),
        help='seconds before a turn; 0.3, on a GPU 0',
    )
    parser.add_argument('--threads', type=count, help='2, or all beside a GPU')
    parser.add_argument('--out', type=new_path, help='a new JSON file')
    options = parser.parse_args()
    if options.k > min(options.sizes):
        parser.error(f'--k {options.k} is more than --sizes {options.sizes}')
    gpu = options.device == 'cuda'
    engines = options.engines or ENGINES[options.device].split()
    try:  # once each, however often they are named
        options.lacking = {e: lacks(e, options.device) for e in engines}
    except ValueError as error:
        parser.error(str(error))
    if options.threads is None:
        options.threads = os.cpu_count() or 1 if gpu else 2
    if options.pause is None:
        options.pause = 0.0 if gpu else 0.3
    for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
        os.environ[name] = str(options.threads)
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision('highest')  # no TF32
    records = benchmark(options)
    console = Console()
    console.width = max(console.width, 110)
    show(records, options.k, console)
    if options.out:
        with new_file(options.out, '--out') as part:
            part.write_text(json.dumps(records, indent=2))


if __name__ == '__main__':
    main()
