"""Whether going on from a checkpoint gives the uninterrupted run."""

import json
from typing import Any, Dict, Optional

from mmengine.dist import get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from .environment import package_versions
from .run_files import changed
from .sample_seed_hook import SampleSeedHook

#: Where a checkpoint keeps the record of the run so far, as JSON.
KEY = 'u1_run_record'
#: What a record says of draws that do not depend on those before them.
SEEDED = 'seeded by sample'


def kept_record(checkpoint: dict) -> Optional[dict]:
    """The record that a checkpoint holds, None if there is none."""
    try:
        record = json.loads(checkpoint[KEY])
    except (KeyError, TypeError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def why_anew(
    runner: Runner, checkpoint: Dict[str, Any], identity: dict
) -> Optional[str]:
    """Why a run must begin anew, None if it may go on from a checkpoint.

    Args:
        runner (Runner): Built, before it loads anything.
        checkpoint (dict): Its content.
        identity (dict): Of the run.
    """
    record = kept_record(checkpoint)
    if record is None:
        return 'the checkpoint holds no record of its run'
    current = json.loads(json.dumps(identity))
    recorded = dict(record.get('identity') or {})
    file = changed(recorded.pop('files', {}), current.pop('files', {}))
    if recorded != current:
        return 'the checkpoint is of another run'
    if file:
        return f'{file!r} has changed since the checkpoint was written'
    if record.get('versions') != package_versions():
        return 'the checkpoint was made with other versions of the packages'
    if record.get('ranks') != get_world_size():
        return (
            f'the checkpoint was made by {record.get("ranks")} processes, '
            f'not {get_world_size()}'
        )
    epoch, iteration = (checkpoint['meta'][key] for key in ('epoch', 'iter'))
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return 'training is not by epochs'
    if (
        iteration != epoch * len(runner.train_dataloader)
        or len(record['order']) != epoch
    ):
        return 'the checkpoint is from the middle of an epoch'
    if epoch < runner.max_epochs:
        if record.get('draws') != SEEDED:
            return 'its random draws depend on those before them'
        return _why_not_train_on(runner, checkpoint, iteration)
    return None


def _why_not_train_on(
    runner: Runner, checkpoint: dict, iteration: int
) -> Optional[str]:
    if 'optimizer' not in checkpoint:
        return 'the checkpoint has no state of the optimizer'
    if runner.param_schedulers and 'param_schedulers' not in checkpoint:
        return 'the checkpoint has no state of the parameter schedulers'
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    if iteration % counts:
        return 'the checkpoint lacks gradients that were accumulated'
    if any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks):
        return 'EarlyStoppingHook forgets what it has seen'
    if not any(isinstance(hook, SampleSeedHook) for hook in runner.hooks):
        return 'random draws depend on those before them without SampleSeedHook'
    return None
