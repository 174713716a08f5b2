"""Fill a memory and classify with it: a table by kappa, k and layer.

The memory is filled by the config's ``MemoryBankHook``, layer by layer, so
that one layer's bank is in memory at a time. Each layer is searched once, with
the greatest k; all kappas and k vote on what was found. MMPretrain's metrics
judge: ``Accuracy``, ``SingleLabelMetric``, and ``RetrievalRecall`` and
``RetrievalAveragePrecision`` of the memory's images, ranked by the cosine of
the mean of their stored vectors to the query's mean vector.

Choose kappa and k with ``--split val``; the test images are for the last word.
Of an approximate engine the recall on held-out pixels of the memory is shown.
In one process; for many, run ``tools/test.py`` with a launcher.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import Progress
from torch import nn

from u1_plugin.files import new_folder
from u1_plugin.lab.analysis.preparation import turns_to_rgb
from u1_plugin.lab.command import number, told
from u1_plugin.lab.markup import terminal
from u1_plugin.lab.memory_evaluation import KERNELS, Grid, evaluate
from u1_plugin.lab.memory_filling import FillingRun, Tracked, hook_of, view_of
from u1_plugin.lab.memory_maps import check_count, memory_head, query_loader
from u1_plugin.lab.memory_test_report import show, write_pictures
from u1_plugin.lab.weights import classifier_of
from u1_plugin.measure.estimate import jsonable
from u1_plugin.measure.probe_options import written_as
from u1_plugin.memory import PRIORS
from u1_plugin.memory.engines import engine_options
from u1_plugin.mm.memory_bank_head import MemoryBankHead
from u1_plugin.mm.memory_inputs import check_hue
from u1_plugin.options import Count, Index, NonNegative, Positive, Seed


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Fill a memory and classify with it: a table by kappa, k '
        'and layer'
    )
    parser.add_argument('config', help='of a model with a MemoryBankHead')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument(
        '--kappa', type=number(NonNegative), nargs='+', help='each >= 0'
    )
    parser.add_argument(
        '--sigma',
        type=number(Positive),
        nargs='+',
        help='for --plane position, radius',
    )
    parser.add_argument('--k', type=number(Count), nargs='+', help='each >= 1')
    parser.add_argument('--plane', choices=PRIORS, help="default: the head's")
    parser.add_argument(
        '--layers', nargs='+', help='such as backbone.layer3; default: the last'
    )
    parser.add_argument(
        '--token-grid', help='module that returns (tokens, (H, W))'
    )
    parser.add_argument('--split', choices=('val', 'test'), default='test')
    parser.add_argument(
        '--shots', type=number(Count), help='images a class, >= 1'
    )
    parser.add_argument('--seed', type=number(Seed), help='of --shots; 0')
    parser.add_argument('--out', type=Path, help='a new folder')
    parser.add_argument(
        '--draw',
        type=number(Index),
        default=0,
        help='images to draw, with --out',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if args.draw and not args.out:
        parser.error(f'--draw {args.draw} needs --out')
    return args


def grid_of(head: MemoryBankHead, args) -> Grid:
    """Raises ValueError if the options do not fit."""
    plane = args.plane or head.plane
    if plane in ('feature', 'both'):
        check_hue(head.feature_plane)
    used, other = 'kappa', 'sigma'
    if plane in KERNELS:
        used, other = other, used
    if getattr(args, other):
        raise ValueError(
            f'--{other} has no effect on plane={plane!r}; take --{used}'
        )
    strengths = getattr(args, used) or [getattr(head, used)]
    ks = args.k or [head.k]
    return Grid(
        plane,
        list(dict.fromkeys(strengths)),
        list(dict.fromkeys(ks)),
        head.kernel,
    )


def read_config(args) -> Config:
    """The config with ``--cfg-options``, which may reach into an engine.

    Of an engine in its short form there is nothing to reach into, so that it
    is written out first.
    """
    cfg = Config.fromfile(args.config)
    options = args.cfg_options or {}
    head = (cfg.get('model') or {}).get('head') or {}
    name = 'model.head.engine'
    if 'engine' in head and any(key.startswith(f'{name}.') for key in options):
        head['engine'] = engine_options(head['engine'], name)
    cfg.merge_from_dict(options)
    return cfg


def check(model: nn.Module) -> None:
    """Raises an error that names what the tool cannot test."""
    if memory_head(model).prior_in != 'vote':
        raise ValueError(
            "model.head.prior_in='search' finds other pixels for every kappa; "
            "set it to 'vote' here, or run tools/test.py"
        )


def check_ks(ks: List[int], head: MemoryBankHead, args) -> None:
    """Raise ValueError for more neighbours than the memory has vectors."""
    option = '--k' if args.k else 'model.head.k ='
    for k in ks:
        check_count(f'{option} {k}', k, len(head.bank))


def written(args: argparse.Namespace) -> Dict[str, str]:
    """What options of this command are called by what reads them."""
    names = {
        'u1.neck.layers': '--layers',
        'u1.neck.token_grid': '--token-grid',
    }
    if args.shots is not None:
        names['shots='] = '--shots '
    return names


def run_test(args, console: Console, folder: Optional[Path]) -> None:
    """Fill, search, show; with a folder, write what was found into it."""
    init_default_scope('mmpretrain')
    logger = MMLogger.get_current_instance()
    logger.setLevel(logging.WARNING)
    cfg = read_config(args)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    weights = args.checkpoint or cfg.get('load_from')
    model = classifier_of(cfg, weights).to(device)
    check(model)
    grid = grid_of(model.head, args)
    queries = query_loader(cfg, args.split)
    count = len(queries.dataset)
    draw = np.linspace(0, count - 1, min(args.draw, count)).astype(int)
    results: Dict[str, dict] = {}
    with Progress(console=console) as progress:
        for layer in dict.fromkeys(args.layers or [None]):
            name = layer or 'last map'
            batch = next(iter(queries)) if layer else None
            view = view_of(model, cfg, layer, args, batch)
            hook = hook_of(cfg, layer, args)
            hook.progress, hook.text = progress, f'{terminal(name)}: memorise'
            run = FillingRun(view, cfg, logger)
            hook.fill(run)
            check_ks(grid.ks, view.head, args)
            text = f'{terminal(name)}: {args.split}, {terminal(grid)}'
            tracked = Tracked(queries, progress, text)
            metrics = evaluate(view, tracked, grid, draw.tolist())
            bank = view.head.bank
            results[name] = dict(
                metrics,
                vectors=len(bank),
                channels=bank.channels,
                bytes=bank.nbytes,
            )
    strength = 'sigma' if grid.plane in KERNELS else 'kappa'
    show(results, strength, grid, console)
    for name, metrics in results.items():
        line = f'{name}: {grid}; searched by {metrics["engine"]}'
        console.print(terminal(line))
    if folder is not None:
        settings = {key: str(v) for key, v in vars(args).items() if v}
        content = dict(
            settings=settings,
            strength=strength,
            plane=grid.plane,
            k=grid.ks,
            kernel=grid.kernel.name,
            **grid.kernel.options,
        )
        memory = hook.images(run)
        is_bgr = turns_to_rgb(cfg)
        write_pictures(results, queries.dataset, memory, is_bgr, folder)
        content['layers'] = results
        text = json.dumps(jsonable(content), indent=2, allow_nan=False)
        (folder / 'report.json').write_text(text)


def main() -> None:
    args, console = parse_args(), Console()
    with told(), written_as(written(args)):
        if args.out is None:
            run_test(args, console, None)
            return
        with new_folder(args.out, '--out') as folder:
            run_test(args, console, folder)
    console.print(f'written to {terminal(args.out)}')


if __name__ == '__main__':
    main()
