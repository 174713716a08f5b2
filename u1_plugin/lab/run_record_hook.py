"""Records what a comparison of runs needs, run by run."""

import hashlib
import json
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import torch
from mmengine.dist import collect_results, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from torch import nn

from ..files import replaced_file
from ..networks import unwrapped, update_digest

try:
    import resource
except ImportError:  # Windows has none
    resource = None

#: Whose versions are recorded: a fork has another name, the same import.
_PACKAGES = (
    'u1_plugin',
    'torch',
    'torchvision',
    'numpy',
    'mmengine',
    'mmpretrain',
    'mmcv-lite',
    'mmcv',
    'onedl-mmengine',
    'onedl-mmpretrain',
    'onedl-mmcv',
    'timm',
)


def weights_hash(module: nn.Module) -> str:
    """Names the parameters and buffers of a module by their bytes."""
    digest = hashlib.sha256()
    update_digest(digest, module)
    return digest.hexdigest()[:16]


def package_versions() -> Dict[str, str]:
    """Of what is installed among the packages that decide a result."""
    found = dict(python=platform.python_version())
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """The GPU's name, or the processor's and the threads in use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path('/proc/cpuinfo')
    names = [
        line.split(':', 1)[1].strip()
        for line in (
            cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
        )
        if line.startswith('model name')
    ]
    name = names[0] if names else platform.processor() or platform.machine()
    return f'{name}, {torch.get_num_threads()} thread(s), no GPU'


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


def _peak_rss_mib() -> Optional[float]:
    """Peak memory of this process; None where the system does not say."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes on Linux, bytes on macOS.
    return peak / (2**20 if sys.platform == 'darwin' else 2**10)


class RunRecordHook(Hook):
    """Writes ``run_record.json``, and the test split's outputs, at the end.

    The record holds ``identity`` as given; hashes of the initial backbone, of
    the initial ``head.fc`` where there is one, and of the sample indices of
    every epoch in the order of training; the validation metrics of every
    epoch; the test metrics of the last epoch, of EMA's weights where there is
    an ``EMAHook``; wall and processor seconds and peak memory of training and
    validation; parameters, package versions and hardware. Until the run is
    over it is ``run_record.part.json``, from which a resumed run goes on: what
    it repeats counts once, but for the seconds.

    Args:
        identity (dict): What names the run, such as arm, seed and hash.
        test (bool): Whether to run the test split after the last epoch and
            write ``test_outputs.npz``: ``logits`` ``(N, K)`` float16,
            ``labels`` ``(N,)``, in the order of the data set.
    """

    # After the other hooks of a stage, so that what they do is included.
    priority = 'VERY_LOW'

    def __init__(self, identity: dict, test: bool = True) -> None:
        self.identity = dict(identity)
        self.test = test
        self.record: dict = {}
        self._order = hashlib.sha256()

    @staticmethod
    def _model(runner: Runner) -> nn.Module:
        return unwrapped(runner.model)

    @staticmethod
    def _file(runner: Runner, kind: str) -> Path:
        return Path(runner.work_dir) / f'run_record{kind}.json'

    def before_train(self, runner: Runner) -> None:
        """Note the start, or go on with the record of a resumed run."""
        part = self._file(runner, '.part')
        if runner.iter > 0 and part.is_file():
            self.record = json.loads(part.read_text())
            self._forget_after(runner)
        else:
            self.record = self._start(self._model(runner))
        self._since = (time.perf_counter(), time.process_time())

    def _forget_after(self, runner: Runner) -> None:
        """Drop the epochs after the checkpoint, which are trained again."""
        done = runner.iter / len(runner.train_dataloader)
        self.record['order'] = self.record['order'][: runner.epoch]
        self.record['val'] = [
            entry for entry in self.record['val'] if entry['epoch'] <= done
        ]

    def _start(self, model: nn.Module) -> dict:
        head = getattr(model, 'head', None)
        fc = getattr(head, 'fc', None)
        return dict(
            identity=self.identity,
            initial=dict(
                backbone=weights_hash(model.backbone),
                head_fc=None if fc is None else weights_hash(fc),
            ),
            order=[],
            val=[],
            test={},
            wall_s=0.0,
            cpu_s=0.0,
            parameters=sum(p.numel() for p in model.parameters()),
            versions=package_versions(),
            hardware=hardware(),
        )

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin the hash of this epoch's order."""
        self._order = hashlib.sha256()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Note which samples were seen."""
        for sample in data_batch['data_samples']:
            index = sample.metainfo.get('sample_idx')
            self._order.update(f'{index},'.encode())

    def after_train_epoch(self, runner: Runner) -> None:
        """Close the hash of this epoch's order."""
        self.record['order'].append(self._order.hexdigest()[:16])
        self._save(runner)

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Note the validation metrics."""
        values = {name: float(value) for name, value in metrics.items()}
        epoch = runner.iter / len(runner.train_dataloader)
        self.record['val'].append(dict(epoch=round(epoch, 4), **values))
        self._save(runner)

    def after_train(self, runner: Runner) -> None:
        """Close the record, after the test split if it is asked for.

        What hooks do after the last epoch is no part of the run's cost: one
        arm measures class angles for another there.
        """
        if self.test:
            self.record['test'] = self._run_test(runner)
        self._write(runner, '')
        if is_main_process():
            self._file(runner, '.part').unlink(missing_ok=True)

    def _count_cost(self) -> None:
        now = (time.perf_counter(), time.process_time())
        for name, new, old in zip(('wall_s', 'cpu_s'), now, self._since):
            self.record[name] += new - old
        self._since = now
        peak = _peak_rss_mib()
        if peak is not None:
            peak = max(peak, self.record.get('peak_rss_mib') or 0)
        self.record['peak_rss_mib'] = peak
        if torch.cuda.is_available():
            self.record['peak_cuda_mib'] = max(
                torch.cuda.max_memory_allocated() / 2**20,
                self.record.get('peak_cuda_mib', 0),
            )

    def _save(self, runner: Runner) -> None:
        self._count_cost()
        self._write(runner, '.part')

    def _write(self, runner: Runner, kind: str) -> None:
        if is_main_process():
            with replaced_file(self._file(runner, kind)) as part:
                part.write_text(json.dumps(self.record, indent=1))

    def _run_test(self, runner: Runner) -> dict:
        """With EMA's weights where validation had them."""
        averages = [h for h in runner.hooks if isinstance(h, EMAHook)]
        for hook in averages:
            hook.before_test_epoch(runner)
        try:
            return self._evaluate(runner)
        finally:
            for hook in averages:
                hook.after_test_epoch(runner)

    @torch.no_grad()
    def _evaluate(self, runner: Runner) -> dict:
        model = self._model(runner).eval()
        loader = runner.build_dataloader(runner.cfg.test_dataloader)
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
        labels = np.array([row[1] for row in rows])
        file = Path(runner.work_dir) / 'test_outputs.npz'
        with replaced_file(file) as part:
            np.savez_compressed(
                part, logits=logits.astype(np.float16), labels=labels
            )
        return top_accuracies(logits, labels)
