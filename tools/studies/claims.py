"""Claims C1 to C4 on several networks and data sets: one table of verdicts.

    PLAN=docs/results/claims/claims.yml
    python tools/studies/claims.py $PLAN work_dirs/claims

Reads a plan (:mod:`u1_plugin.lab.analysis.claims_plan`), measures each cell,
one network on one set of images, in one pass, and writes ``OUT/README.md``,
``claims.csv`` and ``claims.png``. Cells lie in ``OUT/cells``: a call that was
interrupted goes on, and a cell whose plan, images, config, weights or tests
have changed is measured again. ``--only`` tabulates what is there.

C1 to C3 are the tests of ``analyze_bottleneck.py`` on the plan's layer, by
default the last map. C4 is ``memory_study.py`` on the same maps, and a control
of its own: the plain vote of the central pixels alone, the maps cropped to
the middle half of their height and width.
"""

import argparse
import json
import logging
import shlex
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.console import Console

from u1_plugin.extras import needs
from u1_plugin.files import check_tool_folder, check_writable, replaced_file
from u1_plugin.lab.analysis.claims_cell import Measured, from_json, to_json
from u1_plugin.lab.analysis.claims_figure import draw
from u1_plugin.lab.analysis.claims_images import (
    check_classes,
    digest,
    images_of,
)
from u1_plugin.lab.analysis.claims_lines import Page
from u1_plugin.lab.analysis.claims_measure import measure
from u1_plugin.lab.analysis.claims_page import render
from u1_plugin.lab.analysis.claims_plan import Cell, Plan, load_plan
from u1_plugin.lab.analysis.claims_table import (
    accuracy_table,
    csv_table,
    judge_table,
)
from u1_plugin.lab.analysis.drawing import png
from u1_plugin.lab.analysis.sources import TIMM
from u1_plugin.lab.benchmark.table import save_csv
from u1_plugin.lab.command import told
from u1_plugin.lab.markup import file_name, terminal

with needs('lab'):
    import pandas as pd

#: Of the file by which the tool knows its own folder.
PLAN, MARK = 'claims.yml', b'# Claims of u1_plugin by network and data.'
#: The same of a folder in which no page has been written yet.
BEGUN = '.claims'
#: Raised where the tests of a claim change, so that cells are measured again.
TESTS = 5


def config_digest(config: str) -> str:
    """Hash of what a config says, inherited parts included; timm's name."""
    if config.startswith(TIMM):
        return config
    values = Config.fromfile(config).to_dict()
    text = json.dumps(values, sort_keys=True, default=repr)
    return sha256(text.encode()).hexdigest()


def identity(plan: Plan, cell: Cell, images: str) -> Dict[str, Any]:
    """What a cell's numbers rest on: files by their content, not their place.

    Args:
        plan (Plan): Of which the cell is.
        cell (Cell): Which.
        images (str): Hash of its images.
    """
    net = plan.networks[cell.network]
    weights = None
    if cell.weights == 'trained':
        weights = sha256(Path(net.checkpoint).read_bytes()).hexdigest()
    network = net._replace(config=config_digest(net.config), checkpoint=weights)
    basis = dict(
        cell=cell._asdict(),
        network=network._asdict(),
        settings=plan.settings._asdict(),
        tests=TESTS,
        memory=cell not in plan.without_memory,
        images=images,
    )
    return json.loads(json.dumps(basis))  # as it is read back


def check_files(plan: Plan) -> None:
    """Raise FileNotFoundError for what a cell will need and is not there."""
    for cell in plan.cells:
        net = plan.networks[cell.network]
        where = f'networks.{cell.network}'
        files = {}
        if cell.weights == 'trained':
            files[f'{where}.checkpoint'] = net.checkpoint
        if not net.config.startswith(TIMM):
            files[f'{where}.config'] = net.config
        for field, file in files.items():
            if not Path(str(file)).is_file():
                raise FileNotFoundError(
                    f'{field}={file!r} does not exist, or is no file; paths '
                    'are those seen from the folder in which the tool is called'
                )
        for folder in plan.data[cell.data].folders:
            if not Path(folder).is_dir():
                raise FileNotFoundError(
                    f'data.{cell.data}.folders: {folder!r} does not exist, or '
                    'is no folder'
                )


def check_memories(plan: Plan) -> None:
    """Raise ValueError if C4 is asked of data with too few images a class."""
    cells = set(plan.cells) - plan.without_memory
    for data in sorted({cell.data for cell in cells}):
        check_classes(plan.data[data], data, plan.settings)


class Runner:
    """Measures the cells of a plan that are not there yet.

    Args:
        plan (Plan): Which.
        out (Path): Where they lie, in ``cells``.
        device (str): Of the networks.
        only (bool): Measure nothing.
    """

    def __init__(self, plan: Plan, out: Path, device: str, only: bool) -> None:
        self.plan, self.out = plan, out
        self.device, self.only = device, only
        self.console = Console()

    def run(self) -> List[Measured]:
        """All cells that are there, or are there now; table by table."""
        results: List[Measured] = []
        for name, cells in self.plan.tables.items():
            for data in dict.fromkeys(cell.data for cell in cells):
                data_cells = [cell for cell in cells if cell.data == data]
                results += self.run_data(name, data, data_cells)
        return results

    def run_data(
        self, table: str, data: str, cells: Sequence[Cell]
    ) -> Iterator[Measured]:
        """Cells of one set of images."""
        plan = self.plan
        with images_of(plan.data[data], plan.settings) as folder:
            images = digest(folder)
            for cell in cells:
                file = self.out / 'cells' / f'{file_name(cell.title)}.json'
                basis = identity(plan, cell, images)
                stored = read_cell(file, basis)
                if stored is None and not self.only:
                    begin = time.monotonic()
                    stored = measure(plan, cell, folder, self.device)
                    write_cell(file, basis, stored)
                    took = time.monotonic() - begin
                    title = terminal(f'{table}: {cell.title}')
                    self.console.print(f'{title}, {took:.0f} s')
                if stored is not None:
                    yield stored


def read_cell(file: Path, basis: Dict[str, Any]):
    """A finished cell, or None if there is none of this basis."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        return from_json(content) if content['basis'] == basis else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(
            f'{file} is damaged ({type(error).__name__}: {error}); remove it, '
            'and its cell is measured again'
        ) from error


def write_cell(file: Path, basis: Dict[str, Any], cell: Measured) -> None:
    """Write a measured cell with what its numbers rest on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = dict(basis=basis, **to_json(cell))
    with replaced_file(file) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False))


def save(out: Path, name: str, content: bytes) -> None:
    """Write a file of the folder, which is whole or as it was before."""
    with replaced_file(out / name) as part:
        part.write_bytes(content)


def begin(out: Path, only: bool) -> None:
    """Check that a folder is ours and can be written, and mark a new one.

    The plan of an earlier page stays beside it until there is another page.

    Args:
        out (Path): May be missing.
        only (bool): Measure nothing, so that a missing folder stays missing.

    Raises:
        FileExistsError: If it holds something else.
        ValueError, PermissionError: If it cannot be written.
    """
    begun = (out / BEGUN).is_file()
    check_tool_folder(out, BEGUN if begun else PLAN, MARK, 'out')
    if only and not out.exists():
        return
    check_writable(out / 'README.md', 'out', parents=True)
    if not only and not (out / PLAN).is_file():
        save(out, BEGUN, MARK + b'\n')


def write_page(
    plan: Plan, out: Path, cells: Sequence[Measured], question: bytes
) -> None:
    """``README.md``, ``claims.csv``, ``accuracy.csv``, ``claims.png``, plan.

    All is there before the first of them is written.

    Args:
        plan (Plan): Which.
        out (Path): The folder.
        cells (Sequence[Measured]): Those of the plan that are measured.
        question (bytes): The plan's text.
    """
    measured = {one.cell: one for one in cells}
    verdicts, rows = {}, []
    for name, planned in plan.tables.items():
        table_cells = [measured[cell] for cell in planned if cell in measured]
        table_verdicts = judge_table(table_cells)
        verdicts.update(table_verdicts)
        rows.append(csv_table(name, table_cells, table_verdicts))
    arguments = [word for word in sys.argv[1:] if word != '--only']
    command = shlex.join(['python', 'tools/studies/claims.py', *arguments])
    text = render(Page(plan, measured, verdicts, command))
    tables = [[c for c in t if c in measured] for t in plan.tables.values()]
    drawn = draw(next(filter(None, tables)), verdicts)  # some may be empty
    picture, table = png(drawn, 110), accuracy_table(cells)
    # The question lies beside its answer, and marks the folder as ours.
    save(out, PLAN, MARK + b'\n' + question.replace(MARK + b'\n', b''))
    save(out, 'README.md', f'{text}\n'.encode())
    with replaced_file(out / 'claims.csv') as part:
        save_csv(pd.concat(rows), part)
    with replaced_file(out / 'accuracy.csv') as part:
        save_csv(table, part)
    save(out, 'claims.png', picture)
    (out / BEGUN).unlink(missing_ok=True)


def parse_args() -> argparse.Namespace:
    """Read the command line and the plan, as ``asked`` and as ``question``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add('plan', type=Path, help='a file of YAML')
    add('out', type=Path, help='a new folder, or one of an earlier call')
    add('--only', action='store_true', help='tabulate, and measure nothing')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    try:
        args.asked = load_plan(args.plan)
        check_files(args.asked)
        if not args.only:
            check_memories(args.asked)
        args.question = args.plan.read_bytes()
        begin(args.out, args.only)
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    return args


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    with told():
        cells = Runner(args.asked, args.out, args.device, args.only).run()
    if not cells:
        raise SystemExit(f'{args.out}: no cell of this plan is measured')
    write_page(args.asked, args.out, cells, args.question)
    Console().print(f'Page: {terminal(args.out / "README.md")}')


if __name__ == '__main__':
    main()
