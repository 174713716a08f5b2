"""What U(1) costs: stock against U(1), side by side in one process.

For each U(1) config the stock twin (its own inner neck and head) is built with
the same initial weights, twice: the second copy, ``stock again``, shows how far
two equal models differ on this machine. Every round runs one whole training
step (normalisation, the config's own Mixup and CutMix, forward, backward,
optimiser) and one prediction of each, in an order that rotates, so that a busy
machine slows all of them alike. Reported per config:

- step and inference time: median, quartiles, and the mean paired difference to
  stock with a bootstrap interval;
- ``branch``: what the U(1) branch alone takes, forward and backward, on maps
  of the same shape. It resolves fractions of a per cent, which a whole step's
  time on a shared machine does not;
- peak memory of a step: weights, buffers and optimiser's state, and the most
  that the step allocates beyond them (counted by the allocator: no sampling);
- parameters, state, FLOPs of inference, and FLOPs of a training step;
- whether inference is the same: equal logits, bit for bit, and equal graphs.
"""

import argparse
import copy
import json
import os
import platform
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np
import torch
from cost_report import markdown, rows
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import u1_plugin
from u1_plugin.files import new_folder
from u1_plugin.nn.bottleneck_angle_neck import U1Feats

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = (
    'configs/resnet/resnet50_8xb32_in1k_u1.py',
    'configs/swin_transformer/swin-tiny_16xb64_in1k_u1.py',
    'configs/convnext/convnext-tiny_32xb128_in1k_u1.py',
)
ARMS = ('stock', 'stock again', 'U(1)')
_BRANCH_REPEATS = 30


class Contestant(NamedTuple):
    """A model with its optimiser."""

    model: nn.Module
    optim_wrapper: object


def stock_config(config: Config) -> Config:
    """The twin without the branch: inner neck and head of a U(1) config."""
    stock = copy.deepcopy(config)
    neck, head = stock.model.get('neck') or {}, stock.model.head
    if neck.get('type') != 'BottleneckAngleNeck' or 'cls_head' not in head:
        raise ValueError(
            f'{config.filename}: model.neck.type={neck.get("type")!r}; give '
            'a U(1) config, with BottleneckAngleNeck and U1ClsHead'
        )
    stock.model.neck, stock.model.head = neck.neck, head.cls_head
    return stock


def contestant(config: Config, options: argparse.Namespace) -> Contestant:
    """Build and initialise as MMEngine's runner does."""
    model_config = copy.deepcopy(config.model)
    model_config.setdefault('data_preprocessor', config.data_preprocessor)
    torch.manual_seed(0)
    model = MODELS.build(model_config)
    model.init_weights()
    model.to(options.device).train()
    wrapper = copy.deepcopy(config.optim_wrapper)
    if options.amp:
        cuda = options.device == 'cuda'
        wrapper.type = 'AmpOptimWrapper' if cuda else 'CPUAmpOptimWrapper'
    return Contestant(model, build_optim_wrapper(model, wrapper))


def batch(options: argparse.Namespace, classes: int) -> dict:
    """Random images, as a data loader hands them over."""
    generator = torch.Generator().manual_seed(1)
    shape = (options.batch_size, 3, options.size, options.size)
    images = torch.randint(0, 256, shape, generator=generator)
    labels = torch.randint(0, classes, shape[:1], generator=generator)
    return dict(
        inputs=list(images.to(torch.uint8)),
        data_samples=[DataSample().set_gt_label(int(c)) for c in labels],
    )


def _same_draws(seed: int) -> None:
    """Mixup or CutMix, and where: alike for the contestants of a round."""
    np.random.seed(seed)
    torch.manual_seed(seed)


def train_step(player: Contestant, data: dict, seed: int = 0) -> None:
    _same_draws(seed)
    player.model.train()
    player.model.train_step(copy.deepcopy(data), player.optim_wrapper)


@torch.no_grad()
def infer(player: Contestant, data: dict, seed: int = 0) -> torch.Tensor:
    player.model.eval()
    inputs = player.model.data_preprocessor(copy.deepcopy(data))['inputs']
    return player.model(inputs)


def seconds(device: str, work: Callable[[], object]) -> float:
    """Of one call; on a GPU between events, after it is idle."""
    if device == 'cuda':
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        torch.cuda.synchronize()
        events[0].record()
        work()
        events[1].record()
        torch.cuda.synchronize()
        return events[0].elapsed_time(events[1]) / 1000
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(
    players: Dict[str, Contestant],
    data: dict,
    work: Callable,
    options: argparse.Namespace,
) -> Dict[str, List[float]]:
    """Seconds of each round, by contestant; the first call is a warm-up."""
    times: Dict[str, List[float]] = {name: [] for name in players}
    names = list(players)
    for player in players.values():
        work(player, data)
    for i in range(options.rounds):
        shift = i % len(names)
        order = names[shift:] + names[:shift]
        # Both directions, or each would always follow the same neighbour.
        for name in order if (i // len(names)) % 2 else order[::-1]:
            times[name].append(
                seconds(options.device, partial(work, players[name], data, i))
            )
    return times


def _bytes(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def held_bytes(player: Contestant) -> int:
    """Weights, buffers and the optimiser's state."""
    state = player.optim_wrapper.optimizer.state.values()
    tensors = [v for s in state for v in s.values() if torch.is_tensor(v)]
    model = player.model
    return _bytes([*model.parameters(), *model.buffers(), *tensors])


def step_bytes(player: Contestant, data: dict, device: str) -> int:
    """The most that a training step holds beyond what it starts with.

    Gradients of the step before are freed first, for each contestant alike.
    """
    player.optim_wrapper.zero_grad()
    if device == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        train_step(player, data)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(
        activities=activities, profile_memory=True, acc_events=True
    ) as profile:
        train_step(player, data)
    events = profile.profiler.kineto_results.events()
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in events
        if event.name() == '[memory]'
    )
    return int(np.cumsum([size for _, size in changes]).max())


def training_flops(player: Contestant, data: dict) -> int:
    """Of convolutions and matrix products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        train_step(player, data)
    return counter.get_total_flops()


def inference_flops(player: Contestant, size: int) -> Tuple[int, int]:
    """FLOPs of one image and parameters, as MMPretrain's get_flops counts."""
    model = copy.deepcopy(player.model).cpu().eval()
    model.forward = model.extract_feat
    info = get_model_complexity_info(
        model, (3, size, size), show_table=False, show_arch=False
    )
    return info['flops'], info['params']


def graph(model: nn.Module, size: int) -> List[Tuple[str, str]]:
    """The exported computations, in order, with what they work on."""
    model = copy.deepcopy(model).cpu().eval()
    program = torch.export.export(model, (torch.rand(1, 3, size, size),))
    return [
        (str(node.target), str(node.args))
        for node in program.graph.nodes
        if node.op == 'call_function'
    ]


def branch_work(player: Contestant, data: dict) -> Callable[[], None]:
    """The U(1) branch alone: moments, loss and their gradient in the maps."""
    model = player.model.train()
    _same_draws(0)
    prepared = model.data_preprocessor(copy.deepcopy(data), training=True)
    with torch.no_grad():
        maps = model.extract_feat(prepared['inputs'], stage='backbone')
        target = model.head._target(prepared['data_samples'])
        tapped = {k: tap.output for k, tap in model.neck._taps.items()}

    def fresh(value):
        if torch.is_tensor(value):
            return value.detach().requires_grad_()
        if isinstance(value, (tuple, list)) and torch.is_tensor(value[0]):
            return type(value)(fresh(v) for v in value)
        return value

    def work() -> None:
        for name, tap in model.neck._taps.items():
            tap.output = fresh(tapped[name])
        feats = U1Feats(None, model.neck.measure(fresh(maps)))
        model.head._check(target, feats.moments)
        model.head._u1_losses(feats.moments, target)['loss_u1'].backward()

    return work


def branch_times(
    player: Contestant, data: dict, options: argparse.Namespace
) -> List[float]:
    work = branch_work(player, data)
    work()
    return [seconds(options.device, work) for _ in range(_BRANCH_REPEATS)]


def profile_branch(player: Contestant, data: dict, device: str) -> str:
    """The operations of the branch, by time, as torch.profiler's table."""
    work = branch_work(player, data)
    work()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == 'cuda':
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(10):
            work()
    return profile.key_averages().table(
        sort_by=f'self_{device}_time_total', row_limit=15
    )


def measure(file: str, options: argparse.Namespace) -> dict:
    """Everything of one config."""
    config = Config.fromfile(file)
    stock = stock_config(config)
    configs = (stock, stock, config)
    players = {arm: contestant(c, options) for arm, c in zip(ARMS, configs)}
    plain, u1 = players['stock'].model, players['U(1)'].model
    u1.load_state_dict(plain.state_dict(), strict=False)
    data = batch(options, u1.head.class_angles.num_classes)
    logits = [infer(players[arm], data) for arm in ('stock', 'U(1)')]
    record: dict = dict(
        config=Path(file).stem,
        equal_logits=bool(torch.equal(*logits)),
        equal_graphs=graph(plain, options.size) == graph(u1, options.size),
        train_s=alternate(players, data, train_step, options),
        infer_s=alternate(players, data, infer, options),
        branch_s=branch_times(players['U(1)'], data, options),
    )
    for arm in ('stock', 'U(1)'):
        player = players[arm]
        flops, parameters = inference_flops(player, options.size)
        record[arm] = dict(
            parameters=parameters,
            buffers=sum(b.numel() for b in player.model.buffers()),
            inference_flops=flops,
            training_flops=training_flops(player, data),
            held_bytes=held_bytes(player),
            step_bytes=step_bytes(player, data, options.device),
        )
    if options.profile:
        record['profile'] = profile_branch(
            players['U(1)'], data, options.device
        )
    return record


def hardware(options: argparse.Namespace) -> str:
    if options.device == 'cuda':
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        models = [
            line.split(':')[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith('model name')
        ]
        name = models[0] if models else name
    return f'{name}, {options.threads} threads'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='What U(1) costs: stock against U(1), side by side'
    )
    parser.add_argument(
        'configs',
        nargs='*',
        default=[str(ROOT / config) for config in CONFIGS],
        help='U(1) configs',
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--size', type=int, default=224, help='pixels')
    parser.add_argument('--rounds', type=int, default=12, help='>= 3')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--amp', action='store_true')
    parser.add_argument(
        '--profile', action='store_true', help="list the branch's operations"
    )
    parser.add_argument('--out', type=Path, help='a new folder')
    options = parser.parse_args()
    if options.rounds < 3:
        parser.error(f'--rounds {options.rounds} must be >= 3')
    if options.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda, but torch sees no GPU; use --device cpu')
    if options.out and options.out.exists():
        parser.error(f'--out {options.out} exists; choose another name')
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
        command=shlex.join(
            ['python', 'tools/benchmarks/cost.py', *sys.argv[1:]]
        ),
        records=[],
    )
    for file in options.configs:
        record = measure(file, options)
        report['records'].append(record)
        table = Table(
            'quantity', 'stock', 'U(1)', 'difference', title=record['config']
        )
        for row in rows(record):
            table.add_row(*row)
        console.print(table)
        if 'profile' in record:
            print(record['profile'])
    if options.out:
        with new_folder(options.out) as part:
            (part / 'cost.json').write_text(json.dumps(report, indent=1))
            (part / 'cost.md').write_text(markdown(report))


if __name__ == '__main__':
    main()
