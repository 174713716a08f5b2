"""What U(1) costs: counted and timed, stock against U(1), in one process."""

import argparse
import copy
import time
from functools import partial
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..mm.data import type_name
from ..mm.sample_targets import targets_of
from ..nn import U1Branch
from . import alternation
from .weights import model_config

STOCK = ('ImageClassifier', 'TimmClassifier', 'HuggingFaceClassifier')
_BRANCH_REPEATS = 30


class Contestant(NamedTuple):
    """A model with its optimizer."""

    model: nn.Module
    optim_wrapper: object


def read_config(file: str) -> Config:
    """A file, or a package's config such as ``mmpretrain::resnet/...py``."""
    return get_config(file) if '::' in file else Config.fromfile(file)


def twins(config: Config) -> Tuple[Config, Config]:
    """The config as stock and as U(1); they differ in ``model.type`` alone.

    Raises:
        ValueError: If the model is none of MMPretrain's classifiers.
    """
    kind = type_name(config.model)
    name = kind[2:] if kind.startswith('U1') else kind
    if name not in STOCK:
        raise ValueError(
            f'{config.filename}: model.type={kind!r} is none of {STOCK} or '
            'their U(1) twins; give a config of one'
        )
    stock, u1 = copy.deepcopy(config), copy.deepcopy(config)
    stock.model.type, u1.model.type = name, f'U1{name}'
    stock.model.pop('u1', None)
    return stock, u1


def contestant(config: Config, options: argparse.Namespace) -> Contestant:
    """Build and initialise as MMEngine's runner does."""
    torch.manual_seed(0)
    model = MODELS.build(model_config(config))
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


def compile_forward(player: Contestant) -> None:
    """As MMEngine's runner does with ``compile=True``."""
    model = player.model
    model.forward = torch.compile(model.forward)


def _same_draws(seed: int) -> None:
    """Mixup or CutMix, and where: alike for the contestants of a round."""
    np.random.seed(seed)
    torch.manual_seed(seed)


def train_step(player: Contestant, data: dict, seed: int = 0) -> None:
    """Take one training step on a copy of the data.

    Args:
        player (Contestant): Whose weights the step changes.
        data (dict): Of :func:`batch`.
        seed (int): Of Mixup and CutMix, alike for all contestants.
    """
    _same_draws(seed)
    player.model.train()
    player.model.train_step(copy.deepcopy(data), player.optim_wrapper)


@torch.no_grad()
def infer(player: Contestant, data: dict, seed: int = 0) -> torch.Tensor:
    """Compute the logits of the data, in eval mode.

    ``seed`` is not used; :func:`alternate` gives it.
    """
    player.model.eval()
    inputs = player.model.data_preprocessor(copy.deepcopy(data))['inputs']
    return player.model(inputs)


def seconds(device: str, work: Callable[[], object]) -> float:
    """Seconds of one call; on a GPU between events, after it is idle."""
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
    for player in players.values():
        work(player, data)

    def run(name: str, round_: int) -> Tuple[float, float]:
        step = partial(work, players[name], data, round_)
        return time.perf_counter(), seconds(options.device, step)

    turns = alternation.alternate(list(players), run, options.rounds)
    return {name: [t.seconds for t in rounds] for name, rounds in turns.items()}


def _bytes(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def held_bytes(player: Contestant) -> int:
    """Weights, buffers and the optimizer's state."""
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
    """Operations of convolutions and matrix products, both passes."""
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


def _fresh(value):
    """The same values as leaves of a new graph."""
    if torch.is_tensor(value):
        value = value.detach()
        return value.requires_grad_() if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return type(value)(_fresh(entry) for entry in value)
    return value


def branch_work(
    player: Contestant, data: dict, amp: bool = False
) -> Callable[[], None]:
    """The U(1) branch alone: moments, loss and their gradient in the maps."""
    model = player.model.train()
    branch: U1Branch = model.u1
    _same_draws(0)
    prepared = model.data_preprocessor(copy.deepcopy(data), training=True)
    kind = prepared['inputs'].device.type
    with torch.no_grad(), torch.autocast(kind, enabled=amp):
        with branch.reading() as reader:
            model.extract_feat(prepared['inputs'])
    outputs = dict(reader.outputs)
    reader.clear()
    target = targets_of(prepared['data_samples'])

    def work() -> None:
        for name, output in outputs.items():
            reader.keep(name, _fresh(output))
        branch(target)['loss_u1'].backward()

    return work


def branch_times(
    player: Contestant, data: dict, options: argparse.Namespace
) -> List[float]:
    """Time the U(1) branch alone: seconds of each repeat after a warm-up."""
    work = branch_work(player, data, options.amp)
    work()
    return [seconds(options.device, work) for _ in range(_BRANCH_REPEATS)]


def profile_branch(
    player: Contestant, data: dict, options: argparse.Namespace
) -> str:
    """The operations of the branch, by time, as torch.profiler's table."""
    device = options.device
    work = branch_work(player, data, options.amp)
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
