"""The images of a memory: which, on which rank, and prepared how."""

import copy
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.runner import Runner, autocast
from torch import nn
from torch.utils.data import DataLoader, Sampler

from ..dist import all_gather_object, get_dist_info
from ..measure.probe_options import class_labels
from ..memory import few_shot
from ..options import Count, Seed, checked
from .data import (
    described,
    forget_copies,
    leaf_pipeline,
    leaves,
    once,
    training_images,
)
from .data_content import content_digests, gt_labels, image_name
from .memory_identity import digest


class MemorySampler(Sampler):
    """Reads images once each, in order; a rank reads its part of them.

    Unlike MMEngine's ``DefaultSampler`` it repeats no image to make the parts
    equal, and the parts are contiguous, so that they join into one process's
    order.

    Args:
        dataset: Of MMPretrain, or a wrapper.
        shots (int, optional): Only so many images of each class.
        shots_seed (int): Which ones.
        seed (int, optional): MMEngine's; unused, as nothing is shuffled.

    Raises:
        ValueError: If an option is out of its range, or a class has fewer
            images than shots.

    Attributes:
        chosen (List[int]): The images of all ranks, ascending.
        first (int): How many of them lie before this rank's.
        numbers (List[int]): This rank's.
    """

    @checked('MemorySampler')
    def __init__(
        self,
        dataset: Any,
        shots: Optional[Count] = None,
        shots_seed: Seed = 0,
        seed: Optional[int] = None,
    ) -> None:
        chosen = np.arange(len(dataset))
        if shots is not None:
            chosen = few_shot(gt_labels(dataset), shots, shots_seed)
        rank, world = get_dist_info()
        start, end = (len(chosen) * r // world for r in (rank, rank + 1))
        self.chosen = chosen.tolist()
        self.first = start
        self.numbers = self.chosen[start:end]

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def check_batches(runner: Runner, name: str) -> None:
    """Raise ValueError unless all ranks get equally many batches."""
    if get_dist_info()[1] == 1:
        return
    counts = all_gather_object(len(getattr(runner, name)))
    if len(set(counts)) > 1:
        raise ValueError(
            f'{name} gives the ranks {counts} batches, each of which is put to '
            "the memories of all; set its sampler's round_up=True"
        )


class NoImagesError(ValueError):
    """A config names no images to memorise."""


class MemoryImages:
    """Images to memorise, each once, in order.

    Args:
        config (Mapping): Of a runner.
        dataloader (dict, optional): Config of their loader; None takes the
            training data set under the pipeline of the test loader.
        shots (int, optional): Only so many images of each class.
        seed (int): Which ones.

    Raises:
        NoImagesError: If the config has none.
    """

    def __init__(
        self,
        config: Mapping,
        dataloader: Optional[dict] = None,
        shots: Optional[int] = None,
        seed: int = 0,
    ) -> None:
        self.shots, self.seed = shots, seed
        if dataloader is None:
            loader = _of_training(config)
        else:
            loader = ConfigDict(copy.deepcopy(dataloader))
            loader.dataset = once(loader.dataset)
        for name in ('batch_sampler', 'num_batch_per_epoch', 'shuffle'):
            loader.pop(name, None)
        loader.sampler = dict(type=MemorySampler, shots=shots, shots_seed=seed)
        loader.drop_last = False
        self.config = loader

    def build(self) -> DataLoader:
        """The loader of this rank's images."""
        forget_copies()
        loader = Runner.build_dataloader(self.config)
        for leaf in leaves(loader.dataset):
            if hasattr(leaf, 'test_mode'):
                # In training, another image stands in for one that fails.
                leaf.test_mode = True
        return loader

    def identity(
        self, loader: DataLoader, numbers: Sequence[int]
    ) -> Dict[str, str]:
        """What tells some images of a built loader, and their pipeline.

        Reads every file once, see :func:`~.data_content.content_digests`.
        """
        pipelines = [
            leaf_pipeline(leaf) for leaf in leaves(self.config.dataset)
        ]
        shots = 'all' if self.shots is None else f'{self.shots}, {self.seed}'
        return dict(
            content_digests(loader.dataset, numbers),
            pipeline=digest(described(pipelines)),
            shots=shots,
        )


def _of_training(config: Mapping) -> ConfigDict:
    train = config.get('train_dataloader')
    if train is None:
        raise NoImagesError(
            'MemoryBankHook: the config has no train_dataloader to memorise; '
            'set custom_hooks=[dict(type="MemoryBankHook", '
            'dataloader=dict(...))]'
        )
    loader = ConfigDict(copy.deepcopy(train))
    loader.dataset = training_images(config, 'MemoryBankHook')
    # Training may mix images as it collates them; a test does not.
    loader.pop('collate_fn', None)
    collate = (config.get('test_dataloader') or {}).get('collate_fn')
    if collate is not None:
        loader.collate_fn = copy.deepcopy(collate)
    return loader


def named_failures(loader: Any) -> Iterator[dict]:
    """The batches; an image that cannot be read is named."""
    batches, yielded = iter(loader), 0
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:
            for index in loader.sampler.numbers[yielded:]:
                try:
                    loader.dataset[index]
                except Exception:
                    name = image_name(loader.dataset, index)
                    raise ValueError(
                        f'MemoryBankHook: {name} cannot be read or prepared: '
                        f'{error}; mend it or leave it out'
                    ) from error
            raise
        if batch is None:
            return
        yield batch
        yielded += len(batch['data_samples'])


@torch.no_grad()
def memorise(model: nn.Module, loader: DataLoader, fp16: bool) -> None:
    """Fill a classifier's memory from a loader, in mixed precision or not."""
    training = model.training
    model.eval()
    number = loader.sampler.first
    try:
        for batch in named_failures(loader):
            data = model.data_preprocessor(batch, False)
            labels = class_labels(data['data_samples'])
            with autocast(enabled=fp16):  # as the loop does
                feats = model.extract_feat(data['inputs'])
            images = torch.arange(number, number + len(labels))
            model.head.fill(feats, labels, images)
            number += len(labels)
    finally:
        model.train(training)
