"""What U(1) costs: stock against U(1), side by side in one process.

Each config, stock or U(1), is built as both: they differ in ``model.type`` (and
``model.u1``) alone. The stock twin is built twice, with the same initial
weights: the second copy, ``stock again``, shows how far two equal models differ
on this machine. Every round runs one whole training
step (normalisation, the config's own Mixup and CutMix, forward, backward,
optimiser) and one prediction of each, in an order that rotates, so that a busy
machine slows all of them alike. Reported per config:

- step and inference time: median, quartiles, and the mean paired difference to
  stock with a bootstrap interval;
- ``branch``: what the U(1) branch alone takes, forward and backward, on maps
  of the same shape, never compiled. It resolves fractions of a per cent, which
  a whole step's time on a shared machine does not;
- peak memory of a step: weights, buffers and optimiser's state, and the most
  that the step allocates beyond them (counted by the allocator: no sampling);
- parameters, state, FLOPs of inference, and FLOPs of a training step;
- whether inference is the same: equal logits, bit for bit, and equal graphs.

``--compile`` compiles the model's ``forward`` as ``compile=True`` in a config
does; graphs, logits and FLOPs are those of the model before.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

import u1_plugin
from u1_plugin.files import check_new, new_folder
from u1_plugin.lab.command import at_least
from u1_plugin.lab.cost import (
    Contestant,
    alternate,
    batch,
    branch_times,
    compile_forward,
    contestant,
    graph,
    held_bytes,
    infer,
    inference_flops,
    profile_branch,
    read_config,
    step_bytes,
    train_step,
    training_flops,
    twins,
)
from u1_plugin.lab.cost_report import markdown, rows
from u1_plugin.lab.environment import processor
from u1_plugin.lab.markup import terminal

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = (
    'configs/resnet/resnet50_8xb32_in1k_u1.py',
    'configs/swin_transformer/swin-tiny_16xb64_in1k_u1.py',
    'configs/convnext/convnext-tiny_32xb128_in1k_u1.py',
)
ARMS = ('stock', 'stock again', 'U(1)')


def counted(player: Contestant, data: dict, options) -> dict:
    """What has no noise."""
    flops, parameters = inference_flops(player, options.size)
    return dict(
        parameters=parameters,
        buffers=sum(b.numel() for b in player.model.buffers()),
        inference_flops=flops,
        training_flops=training_flops(player, data),
    )


def measure(file: str, options: argparse.Namespace) -> dict:
    """Everything of one config."""
    stock, u1 = twins(read_config(file))
    configs = (stock, stock, u1)
    players = {arm: contestant(c, options) for arm, c in zip(ARMS, configs)}
    compared = {arm: players[arm] for arm in ('stock', 'U(1)')}
    models = [player.model for player in compared.values()]
    models[1].load_state_dict(models[0].state_dict(), strict=False)
    data = batch(options, models[1].u1.class_angles.num_classes)
    logits = [infer(player, data) for player in compared.values()]
    graphs = [graph(model, options.size) for model in models]
    record: dict = dict(
        config=Path(file.split('::')[-1]).stem,
        equal_logits=bool(torch.equal(*logits)),
        equal_graphs=graphs[0] == graphs[1],
    )
    for arm, player in compared.items():
        record[arm] = counted(player, data, options)
    branch = branch_times(players['U(1)'], data, options)
    if options.profile:
        record['profile'] = profile_branch(players['U(1)'], data, options)
    if options.compile:
        for player in players.values():
            compile_forward(player)
    record.update(
        train_s=alternate(players, data, train_step, options),
        infer_s=alternate(players, data, infer, options),
        branch_s=branch,
    )
    for arm, player in compared.items():
        record[arm].update(
            held_bytes=held_bytes(player),
            step_bytes=step_bytes(player, data, options.device),
        )
    return record


def hardware(options: argparse.Namespace) -> str:
    """Name the GPU, or the processor with the number of threads."""
    if options.device == 'cuda':
        return torch.cuda.get_device_name()
    return f'{processor()}, {options.threads} threads'


def parse_args() -> argparse.Namespace:
    """Read the command line; check that the device exists and OUT does not."""
    parser = argparse.ArgumentParser(
        description='What U(1) costs: stock against U(1), side by side'
    )
    parser.add_argument(
        'configs',
        nargs='*',
        default=[str(ROOT / config) for config in CONFIGS],
        help='stock or U(1), files or such as mmpretrain::resnet/...py',
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--batch-size', type=at_least(1), default=8)
    parser.add_argument('--size', type=at_least(1), default=224, help='pixels')
    parser.add_argument('--rounds', type=at_least(3), default=12)
    parser.add_argument('--threads', type=at_least(1), default=os.cpu_count())
    parser.add_argument('--amp', action='store_true', help='train with AMP')
    parser.add_argument(
        '--compile', action='store_true', help='train and infer compiled'
    )
    parser.add_argument(
        '--profile', action='store_true', help="list the branch's operations"
    )
    parser.add_argument('--out', type=Path, help='a new folder')
    options = parser.parse_args()
    if options.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but torch sees no GPU; use --device cpu')
    if options.out and options.out.exists():
        parser.error(f'--out {options.out} exists; choose another name')
    try:
        if options.out:
            check_new(options.out, '--out', parents=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return options


def main() -> None:
    options = parse_args()
    torch.set_num_threads(options.threads)
    init_default_scope('mmpretrain')
    console = Console()
    report = dict(
        hardware=hardware(options),
        torch=torch.__version__,
        u1_plugin=u1_plugin.__version__,
        batch_size=options.batch_size,
        size=options.size,
        rounds=options.rounds,
        amp=options.amp,
        compile=options.compile,
        command=shlex.join(
            ['python', 'tools/benchmarks/cost.py', *sys.argv[1:]]
        ),
        records=[],
    )
    for file in options.configs:
        record = measure(file, options)
        report['records'].append(record)
        table = Table(
            *('quantity', 'stock', 'U(1)', 'difference'),
            title=terminal(record['config']),
        )
        for row in rows(record):
            table.add_row(*row)
        console.print(table)
        if 'profile' in record:
            print(record['profile'])
    if options.out:
        with new_folder(options.out) as part:
            (part / 'cost.json').write_text(json.dumps(report, indent=1))
            (part / 'cost.md').write_text(markdown(report), encoding='utf-8')


if __name__ == '__main__':
    main()
