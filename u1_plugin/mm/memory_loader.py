"""The images of a memory: which, prepared how, and their names."""

import copy
from typing import Dict, Mapping, Optional, Sequence

from mmengine.config import ConfigDict
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from .data import described, leaves, once, own_pipeline, training_images
from .data_content import content_digests
from .memory_identity import digest
from .memory_sampler import MemorySampler


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
        if dataloader is not None:
            loader = ConfigDict(copy.deepcopy(dataloader))
            loader.dataset = once(loader.dataset)
        else:
            loader = _of_training(config)
        for name in ('batch_sampler', 'num_batch_per_epoch', 'shuffle'):
            loader.pop(name, None)
        loader.sampler = dict(type=MemorySampler, shots=shots, shots_seed=seed)
        loader.drop_last = False
        self.config = loader

    def build(self) -> DataLoader:
        """The loader of this rank's images."""
        loader = Runner.build_dataloader(self.config)
        for leaf in leaves(loader.dataset):
            if hasattr(leaf, 'test_mode'):
                # In training, another image stands in for one that fails.
                leaf.test_mode = True
        return loader

    def identity(
        self, loader: DataLoader, numbers: Sequence[int]
    ) -> Dict[str, str]:
        """What tells these images from others, and how they are prepared.

        Reads every file once, see :func:`~.data_content.content_digests`.

        Args:
            loader (DataLoader): As :meth:`build` gave it.
            numbers (Sequence[int]): Which of its images.
        """
        pipelines = [own_pipeline(leaf) for leaf in leaves(self.config.dataset)]
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
