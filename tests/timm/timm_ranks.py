"""Run by torchrun, and in one process: a short training of timm's kind.

Usage: ``torchrun timm_ranks.py OUT``. Each rank sees its part of every batch;
rank 0 writes the states that came of it to OUT.
"""

import gc
import os
import sys
from typing import Dict

import timm
import torch
from torch import Tensor, nn

from u1_plugin import dist
from u1_plugin.timm import U1ClassificationTask

CLASSES, BATCH, STEPS = 10, 8, 2
RESNET = dict(model_name='resnet10t')
SWIN = dict(
    model_name='swin_tiny_patch4_window7_224',
    img_size=64,
    window_size=4,
    embed_dim=24,
    depths=(1, 1, 1, 1),
    num_heads=(1, 2, 3, 4),
    drop_path_rate=0.0,
)
#: Small enough to compile in a test.
SHALLOW = dict(SWIN, depths=(1,), num_heads=(1,))
CASES = dict(swin=SWIN, compiled=SHALLOW, resnet=RESNET)
JOINT = dict(neck=dict(plane='joint'), loss=dict(loss_weight=0.5))
#: Everything in the branch that ranks could come to hold differently.
STATEFUL = dict(
    neck=dict(
        plane='joint', feature_plane=dict(basis='learned', center='running')
    )
)


def network(name: str = 'resnet') -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(num_classes=CLASSES, **CASES[name])


def task_of(name: str = 'resnet', *args, **kwargs) -> U1ClassificationTask:
    kwargs.setdefault('u1', JOINT)
    return U1ClassificationTask(network(name), *args, **kwargs).train()


def batch(seed: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(BATCH, 3, 64, 64, generator=generator)
    return images, torch.arange(BATCH) % CLASSES


def scores_of(labels: torch.Tensor) -> torch.Tensor:
    """Of two classes an image, as Mixup gives them."""
    one_hot = nn.functional.one_hot(labels, CLASSES).float()
    return 0.7 * one_hot + 0.3 * one_hot.flip(0)


def gradients(module: nn.Module) -> list:
    return [p.grad for p in module.parameters() if p.grad is not None]


def own_part(values: Tensor, micro: int) -> Tensor:
    """This rank's half of one of two micro batches; all of it alone."""
    half = values.chunk(2)[micro]
    return half.chunk(dist.get_world_size())[dist.get_rank()]


def optimizer_of(task: U1ClassificationTask) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), 0.1)
    own = list(task.u1.parameters())
    if own:
        optimizer.add_param_group(dict(params=own))
    return optimizer


def trained(task: U1ClassificationTask, amp: bool = False) -> None:
    """Two micro batches a step, gradients exchanged with the second."""
    task.train()
    optimizer = optimizer_of(task)
    for step in range(STEPS):
        images, labels = batch(step)
        optimizer.zero_grad()
        for micro in range(2):
            inputs = own_part(images, micro), own_part(labels, micro)
            with torch.autocast('cpu', torch.bfloat16, enabled=amp):
                if micro == 0:
                    with task.no_sync():
                        (task(*inputs)['loss'] / 2).backward()
                else:
                    (task(*inputs)['loss'] / 2).backward()
        optimizer.step()
        if task.has_ema():
            task.update_ema()


def state_of(task: U1ClassificationTask) -> Dict[str, Tensor]:
    """All that a checkpoint keeps, flat."""
    state = task.get_checkpoint_state()
    flat = {**state['state_dict'], **state['task_state']}
    ema = task.get_checkpoint_state(ema=True).get('state_dict_ema', {})
    return {**flat, **{f'ema.{name}': value for name, value in ema.items()}}


def case(name: str) -> U1ClassificationTask:
    """A trained task; the ResNet's with EMA and under autocast."""
    resnet = name == 'resnet'
    smoothing = dict(smoothing=0.1)
    task = task_of(name, criterion_kwargs=smoothing, u1=STATEFUL)
    if name == 'compiled':
        task.compile(backend='aot_eager')
    if resnet:
        task.setup_ema(decay=0.5)
    if dist.get_world_size() > 1:
        task.prepare_distributed()
    trained(task, amp=resnet)
    return task


def agree(state: Dict[str, Tensor]) -> bool:
    """Whether every rank holds these very values, batch norms apart."""
    same = True
    for name, value in state.items():
        if 'u1.' not in name and 'running_' in name:
            continue  # each rank's own, as without SyncBN
        first = value.clone()
        torch.distributed.broadcast(first, 0)
        same = same and torch.equal(first, value)
    verdict = torch.tensor(int(same))
    torch.distributed.all_reduce(verdict, torch.distributed.ReduceOp.MIN)
    return bool(verdict)


def outcome(name: str) -> dict:
    """What came of a case, and whether the ranks agree in it."""
    state = state_of(case(name))
    return dict(state=state, agree=agree(state))


def main() -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo')
    assert int(os.environ['WORLD_SIZE']) == dist.get_world_size() == 2
    found = {name: outcome(name) for name in CASES}
    # torch's Reducer must not be the last to hold the group: it holds the GIL
    # while it joins gloo's threads, which may wait for it.
    gc.collect()
    if dist.get_rank() == 0:
        torch.save(found, sys.argv[1])
    # A rank that ends while another still talks to it may abort.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
