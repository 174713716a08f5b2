"""Random numbers that depend on what they are for, not on what came before."""

import hashlib
import random
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader, IterableDataset

from .naming_dataset import NamingDataset


def _number(*key: Any) -> int:
    """A seed of 56 bits, alike on every machine."""
    text = ','.join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), 'big')


def seed_all(*key: Any) -> None:
    """Seed Python, NumPy and torch, on all devices."""
    number = _number(*key)
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


class SeededDataset(NamingDataset):
    """A data set that is asked for ``(index, seed)``.

    It may draw from Python's, NumPy's and torch's own generators.
    """

    def __getitem__(self, place: Tuple[int, int]) -> Any:
        """One sample, whose draws depend on the seed alone."""
        index, seed = place
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        return super().__getitem__(index)


class SeededBatches:
    """Batches of ``(index, seed)``.

    A seed is of the run, of the epoch and of the place in the epoch's order
    over all ranks, so that repeated samples differ.

    Args:
        batches: A batch sampler, whose other attributes stay at hand.
        seed (int): Of the run.
    """

    def __init__(self, batches: Any, seed: int) -> None:
        self.batches = batches
        self.seed = seed
        self.epoch = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[List[Tuple[int, int]]]:
        place, world_size = get_dist_info()
        for batch in self.batches:
            seeded = []
            for index in batch:
                number = _number(self.seed, 'sample', self.epoch, place)
                seeded.append((index, number))
                place += world_size
            yield seeded


class SampleSeedHook(Hook):
    """Lets a resumed run draw what an uninterrupted one draws.

    Before every sample's pipeline, the generators of Python, NumPy and torch
    are seeded from the run's seed, the epoch and the sample's place in the
    epoch's order; before every iteration, from the run's seed, the iteration
    and the rank (batch augmentation, dropout, drop path). So no draw depends
    on the draws before it, on the number of worker processes, or on whether
    the run was interrupted after a whole epoch. Two arms of a comparison draw
    the same for the same sample, whatever else they draw.

    Generators of their own, such as those of albumentations since 1.4.19, are
    out of reach. Loops that do not train epoch by epoch are seeded before
    every iteration alone.
    """

    # Before what draws.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.batches: Optional[SeededBatches] = None
        self._built_with: Optional[int] = None

    def before_run(self, runner: Runner) -> None:
        """Note the seed that the sampler was built with."""
        self._built_with = runner.seed

    def before_train(self, runner: Runner) -> None:
        """Have the samples seeded from now on."""
        loader = runner.train_dataloader
        self.batches = None
        if (
            not isinstance(runner.train_loop, EpochBasedTrainLoop)
            or loader.batch_sampler is None
            or isinstance(loader.dataset, IterableDataset)
        ):
            return
        # Built before a resumed run knew the seed of the first.
        if self._seeded_by(runner, loader):
            loader.sampler.seed = runner.seed
        self.batches = SeededBatches(loader.batch_sampler, runner.seed)
        # A loader forbids this once its workers hold copies; none has begun.
        parts = dict(
            dataset=SeededDataset(loader.dataset, 'train_dataloader'),
            batch_sampler=self.batches,
        )
        vars(loader).update(parts)

    def _seeded_by(self, runner: Runner, loader: DataLoader) -> bool:
        """Whether the sampler's seed is the runner's and not its config's."""
        # With `diff_rank_seed` the ranks' samplers share a seed of their own,
        # and runner.seed is another on each: they would overlap.
        diff_rank_seed = getattr(runner, '_randomness_cfg', {}).get(
            'diff_rank_seed'
        )
        if diff_rank_seed or not hasattr(loader.sampler, 'seed'):
            return False
        config = (runner.cfg or {}).get('train_dataloader')
        if isinstance(config, dict):
            return (config.get('sampler') or {}).get('seed') is None
        # FlexibleRunner has the seed of the first by now, and this says no.
        return bool(loader.sampler.seed == self._built_with)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the epoch's order and what its hooks draw."""
        seed_all(runner.seed, 'epoch', runner.epoch)
        if self.batches is not None:
            self.batches.epoch = runner.epoch

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed the iteration; its batch is there already."""
        seed_all(runner.seed, 'iteration', runner.iter, get_dist_info()[0])

    def before_val_epoch(self, runner: Runner) -> None:
        """Seed the validation, which may be repeated."""
        seed_all(runner.seed, 'validation', runner.iter)
