"""Runs the test split after the last epoch."""

from pathlib import Path
from typing import Dict, List

import numpy as np
import torch
from mmengine.dist import broadcast, collect_results, is_main_process
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from torch import nn

from ..files import replaced_file
from ..networks import unwrapped
from .naming_dataset import name_files

#: The largest number of half precision.
HALF = float(np.finfo(np.float16).max)


def top_accuracies(logits: np.ndarray, labels: np.ndarray) -> Dict[str, float]:
    """Top-1, and with more than 10 classes top-5, per cent.

    Args:
        logits (np.ndarray): ``(N, K)``, of any sign.
        labels (np.ndarray): ``(N,)``.
    """
    topk = (1, 5) if logits.shape[1] > 10 else (1,)
    # Without a threshold, which counts a largest logit below 0 as wrong.
    scores = Accuracy.calculate(
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        topk=topk,
        thrs=(None,),
    )
    # A count of images again: float32 per cents would break ties of runs.
    counts = [round(float(score[0]) * len(labels) / 100) for score in scores]
    return {
        f'accuracy/top{k}': 100 * count / len(labels)
        for k, count in zip(topk, counts)
    }


def check_outputs(logits: np.ndarray, labels: np.ndarray) -> None:
    """Raise ValueError unless these are logits of images and their classes."""
    if (
        logits.ndim != 2
        or not logits.size
        or logits.dtype.kind != 'f'
        or labels.shape != logits.shape[:1]
        or labels.dtype.kind not in 'iu'
        or not np.isfinite(logits).all()
        or not ((labels >= 0) & (labels < logits.shape[1])).all()
    ):
        raise ValueError(
            f'logits of shape {logits.shape} ({logits.dtype}) and '
            f'labels of shape {labels.shape} ({labels.dtype}); they must be '
            'finite numbers (N, K) and classes (N,)'
        )


def share_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of the first, as checkpoints do.

    MMEngine's ranks keep running statistics of their own, and only the first
    rank's are saved: without this, an interrupted run and one that was not
    would be evaluated with different ones on the other ranks.
    """
    for buffer in model.buffers():
        broadcast(buffer)


def run_test(runner: Runner) -> dict:
    """Write ``test_outputs.npz``, with EMA's weights where validation had them.

    Returns:
        dict: The accuracies; empty on other ranks than the first.

    Raises:
        FloatingPointError: If the outputs are not finite.
    """
    averages = [h for h in runner.hooks if isinstance(h, EMAHook)]
    for hook in averages:
        hook.before_test_epoch(runner)
    try:
        return _evaluate(runner)
    finally:
        for hook in averages:
            hook.after_test_epoch(runner)


@torch.no_grad()
def _evaluate(runner: Runner) -> dict:
    model = unwrapped(runner.model).eval()
    share_buffers(model)
    loader = runner.build_dataloader(runner.cfg.test_dataloader)
    name_files(loader, 'test_dataloader')
    rows: List[tuple] = []
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        logits = model(data['inputs'], mode='tensor').float().cpu()
        labels = [int(s.gt_label) for s in data['data_samples']]
        rows += list(zip(logits.numpy(), labels))
    rows = collect_results(rows, len(loader.dataset), device='cpu')
    if not is_main_process():
        return {}
    logits = np.stack([row[0] for row in rows])
    if not np.isfinite(logits).all():
        raise FloatingPointError(
            'test_dataloader: the outputs are not all finite, so they '
            'have no accuracy; lower optim_wrapper.optimizer.lr'
        )
    labels = np.array([row[1] for row in rows])
    file = Path(runner.work_dir) / 'test_outputs.npz'
    halves = logits.clip(-HALF, HALF).astype(np.float16)
    fits = np.abs(logits).max() <= HALF
    with replaced_file(file) as part:
        np.savez_compressed(
            part, logits=halves if fits else logits, labels=labels
        )
    return top_accuracies(logits, labels)
