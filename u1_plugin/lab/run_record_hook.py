"""Records what a comparison of runs needs, run by run."""

import errno
import hashlib
import json
import time
from pathlib import Path
from typing import IO, Any, Dict, Optional

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import (
    CheckpointLoader,
    EpochBasedTrainLoop,
    Runner,
    find_latest_checkpoint,
)

from ..files import replaced_file
from ..mm.hooks.whole_checkpoint_hook import WholeCheckpointHook
from ..networks import unwrapped
from ..options import checked
from .environment import (
    hardware,
    package_versions,
    peak_rss_mib,
    weights_hash,
)
from .naming_dataset import name_files
from .outputs import run_test, share_buffers
from .resume import KEY, SEEDED, kept_record, why_anew
from .sample_seed_hook import SampleSeedHook

try:
    import fcntl
except ImportError:  # Windows: nothing is known of other processes
    fcntl = None


def held(folder: Path) -> Optional[IO]:
    """Lock a work dir, where a killed job's ranks may still train.

    Returns:
        IO, optional: Close it to let go; the end of the process does too. None
        where the system has no such locks.

    Raises:
        RuntimeError: If another process holds it.
    """
    if fcntl is None:
        return None
    lock = (folder / '.lock').open('a')
    try:
        # Of this process alone: processes that it forks do not hold it.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            lock.close()
            raise RuntimeError(
                f'--work-dir={str(folder)!r}: another process trains there; '
                'end it or wait for it'
            ) from error
    return lock


class RunRecordHook(Hook):
    """Writes ``run_record.json``, and the test split's outputs, at the end.

    The record holds ``identity`` as given; hashes of the initial backbone, of
    the initial ``head.fc`` where there is one, and of the sample indices of
    every epoch in the order of training; the validation metrics of every
    epoch that has a validation; the test metrics of the last epoch, of EMA's
    weights where there is an ``EMAHook``; wall and processor seconds and peak
    memory of training and validation; parameters, package versions and
    hardware; what draws random numbers (``draws``) and at which epochs the
    run went on after an interruption (``resumed``).

    Every checkpoint holds the record up to it, so that a resumed run goes on
    with the record of its weights. A validation that was due after the
    checkpoint is run then. Where going on would not give the run that was
    not interrupted (see :func:`~u1_plugin.lab.resume.why_anew`), it begins
    anew. ``run_record.part.json`` shows how far a run has come.

    Args:
        identity (dict): What names the run, such as arm, seed and hash.
        test (bool): Whether to run the test split after the last epoch and
            write ``test_outputs.npz``: ``logits`` ``(N, K)`` float16, or
            float32 beyond its range, ``labels`` ``(N,)``, in the order of the
            data set.
    """

    # After the other hooks of a stage, so that what they do is included.
    priority = 'VERY_LOW'

    @checked('RunRecordHook')
    def __init__(self, identity: dict, test: bool = True) -> None:
        self.identity = dict(identity)
        self.test = test
        self.record: dict = {}
        self._kept: Optional[dict] = None
        self._order = hashlib.sha256()
        self._lock: Any = None

    @staticmethod
    def _file(runner: Runner, kind: str) -> Path:
        return Path(runner.work_dir) / f'run_record{kind}.json'

    def before_run(self, runner: Runner) -> None:
        """Hold the work dir, and see whether the run may go on.

        Raises:
            RuntimeError: If another process trains in the work dir.
        """
        if is_main_process():
            self._lock = held(Path(runner.work_dir))
        self._kept = None
        if not runner._resume:
            return
        file = runner._load_from
        try:
            file = file or find_latest_checkpoint(runner.work_dir)
            if file is None:
                return
            checkpoint = CheckpointLoader.load_checkpoint(file, 'cpu')
            reason = why_anew(runner, checkpoint, self.identity)
        except Exception as error:  # a damaged file can raise whatever
            reason = f'{file or "last_checkpoint"} cannot be read: {error}'
        if reason is None:
            self._kept = kept_record(checkpoint)
            return
        hooks = [h for h in runner.hooks if isinstance(h, WholeCheckpointHook)]
        (hooks or [WholeCheckpointHook()])[0].begin_anew(runner, reason)

    def before_train(self, runner: Runner) -> None:
        """Note the start, or go on with the record of a resumed run."""
        self._since = (time.perf_counter(), time.process_time())
        if self._kept is None:
            self.record = self._start(runner)
        else:
            self.record = self._kept
            self.record['resumed'].append(runner.epoch)
            if hardware() not in self.record['hardware']:
                self.record['hardware'] += f'; {hardware()}'
        self._save(runner)
        if runner.val_loop is not None:
            name_files(runner.val_dataloader, 'val_dataloader')
        if self._lacks_validation(runner):
            runner.val_loop.run()

    def _start(self, runner: Runner) -> dict:
        model = unwrapped(runner.model)
        fc = getattr(getattr(model, 'head', None), 'fc', None)
        seeded = any(
            isinstance(hook, SampleSeedHook) and hook.batches is not None
            for hook in runner.hooks
        )
        return dict(
            identity=self.identity,
            initial=dict(
                backbone=weights_hash(model.backbone),
                head_fc=None if fc is None else weights_hash(fc),
            ),
            draws=SEEDED if seeded else 'one after another',
            ranks=get_world_size(),
            order=[],
            val=[],
            test={},
            resumed=[],
            wall_s=0.0,
            cpu_s=0.0,
            parameters=sum(p.numel() for p in model.parameters()),
            versions=package_versions(),
            hardware=hardware(),
        )

    def _lacks_validation(self, runner: Runner) -> bool:
        """Whether the validation after the checkpoint's epoch is missing."""
        epoch, loop = runner.epoch, runner.train_loop
        done = self.record['val']
        if epoch == 0 or runner.val_loop is None:
            return False
        loop._decide_current_val_interval()
        last = epoch == loop.max_epochs
        due = epoch >= loop.val_begin and (
            last or epoch % loop.val_interval == 0
        )
        return due and not (done and done[-1]['epoch'] == epoch)

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

    def before_val_epoch(self, runner: Runner) -> None:
        """Evaluate what a checkpoint holds, on every rank."""
        share_buffers(unwrapped(runner.model))

    def after_val_epoch(
        self, runner: Runner, metrics: Optional[Dict[str, float]] = None
    ) -> None:
        """Note the validation metrics."""
        values = {name: float(value) for name, value in metrics.items()}
        epoch = runner.iter / len(runner.train_dataloader)
        self.record['val'].append(dict(epoch=round(epoch, 4), **values))
        self._save(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Give the checkpoint the record up to it."""
        self._count_cost()
        order = list(self.record['order'])
        if len(order) < checkpoint['meta']['epoch']:
            # This epoch's checkpoint is written before its order is closed.
            order.append(self._order.hexdigest()[:16])
        checkpoint[KEY] = json.dumps(dict(self.record, order=order))

    def after_train(self, runner: Runner) -> None:
        """Close the record, after the test split if it is asked for.

        What hooks do after the last epoch is no part of the run's cost: one
        arm measures class angles for another there.

        Raises:
            RuntimeError: If the record lacks an epoch.
            FloatingPointError: If the test split's outputs are not finite.
        """
        epochs = len(self.record['order'])
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if by_epoch and epochs != runner.epoch:
            raise RuntimeError(
                f'{self._file(runner, "")}: {epochs} epochs are recorded of '
                f'{runner.epoch}; remove the folder and train again'
            )
        if self.test:
            self.record['test'] = run_test(runner)
        self._write(runner, '')
        if is_main_process():
            self._file(runner, '.part').unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def _count_cost(self) -> None:
        now = (time.perf_counter(), time.process_time())
        for name, new, old in zip(('wall_s', 'cpu_s'), now, self._since):
            self.record[name] += new - old
        self._since = now
        peak = peak_rss_mib()
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
