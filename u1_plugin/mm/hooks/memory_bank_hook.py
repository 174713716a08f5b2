"""Fills a :class:`MemoryBankHead` from the training images."""

import copy
import hashlib
from pathlib import Path
from typing import Optional

import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ...memory import MemoryBank
from ...networks import unwrapped, update_digest
from ..memory_bank_head import MemoryBankHead


def fingerprint(backbone: nn.Module, filling: str, data: str) -> str:
    """Names the backbone's weights, what is stored, and of which images.

    Args:
        backbone (nn.Module): Its parameters and buffers count.
        filling (str): :attr:`MemoryBankHead.filling`.
        data (str): Says which images, and how they are prepared.

    Returns:
        str: A checksum of all three.
    """
    digest = hashlib.sha256(f'{filling};{data}'.encode())
    update_digest(digest, backbone)
    return digest.hexdigest()[:32]


class MemoryBankHook(Hook):
    """Runs the frozen backbone over the training images once, before a test.

    The images come from the training data set with the test pipeline, in
    order and without augmentation. In a distributed run every rank fills and
    searches its own part of them, and the answers are those of one process.

    Args:
        dataloader (dict, optional): Another loader's config. Its sampler is
            replaced by :class:`MemorySampler`.
        file (str, optional): Where the bank lies beside the checkpoint. An
            existing file is read, if this backbone and these images made it,
            and refused otherwise. None keeps the bank in memory. Distributed,
            each rank has a file of its own, ``name.0-of-2.safetensors``.
        shots (int, optional): Memorise only so many images of each class.
        seed (int): Which ones.

    Raises:
        TypeError: If the model has no :class:`MemoryBankHead`.
        ValueError: If there are no training images to memorise, or if a
            distributed bank is to lie in checkpoints, of which only one rank
            writes.
    """

    priority = 'LOW'  # after EMA has put its weights in place

    def __init__(
        self,
        dataloader: Optional[dict] = None,
        file: Optional[str] = None,
        shots: Optional[int] = None,
        seed: int = 0,
    ) -> None:
        if shots is not None and shots < 1:
            raise ValueError(
                f'MemoryBankHook: shots={shots} must be >= 1, or None'
            )
        self.dataloader = dataloader
        self.shots, self.seed = shots, seed
        self.file = None if file is None else Path(file)

    def before_test(self, runner: Runner) -> None:
        """Fill, unless the bank is filled (from the checkpoint)."""
        self.fill(runner)

    def before_val(self, runner: Runner) -> None:
        """As before a test."""
        self.fill(runner)

    def fill(self, runner: Runner) -> None:
        """Fill the bank or read it from :attr:`file`."""
        model = unwrapped(runner.model)
        head = getattr(model, 'head', None)
        if not isinstance(head, MemoryBankHead):
            raise TypeError(
                f'MemoryBankHook: model.head is {type(head).__name__}, not '
                'MemoryBankHead; set model.head or leave the hook out'
            )
        if len(head.bank):
            return
        rank, world = get_dist_info()
        if world > 1 and head.in_checkpoint:
            raise ValueError(
                'model.head.in_checkpoint=True, but one rank writes '
                f'checkpoints and {world} share the bank; set the file of '
                'MemoryBankHook instead'
            )
        config = self._loader_config(runner)
        data = f'{config.dataset!r},shots={self.shots},{self.seed}'
        name = fingerprint(
            model.backbone, head.filling, f'{data},{rank} of {world}'
        )
        file = self.file
        if file is not None and world > 1:
            file = file.with_name(f'{file.stem}.{rank}-of-{world}{file.suffix}')
        if file is not None and file.exists():
            bank = MemoryBank.load(file, name, head.in_channels)
            head.set_bank(bank, world > 1)
            runner.logger.info(f'memory: {len(head.bank)} of {file}')
            return
        head.set_bank(MemoryBank(head.dtype, name), world > 1)
        self._run(runner, model, Runner.build_dataloader(config))
        head.condense()
        runner.logger.info(
            f'memory: {len(head.bank)} vectors, '
            f'{head.bank.nbytes / 2**20:.1f} MiB'
            + f' on each of {world} ranks'
            * (world > 1)
        )
        if file is not None:
            head.bank.save(file)

    def _loader_config(self, runner: Runner):
        if self.dataloader is not None:
            config = ConfigDict(copy.deepcopy(self.dataloader))
            config.sampler = self._sampler()
            return config
        config = copy.deepcopy(runner.cfg.get('train_dataloader'))
        if config is None:
            raise ValueError(
                'MemoryBankHook: the config has no train_dataloader to '
                'memorise; set custom_hooks=[dict(type="MemoryBankHook", '
                'dataloader=dict(...))]'
            )
        pipeline = runner.cfg.test_dataloader.dataset.pipeline
        config.dataset.pipeline = copy.deepcopy(pipeline)
        config.sampler = self._sampler()
        config.drop_last = False
        return config

    def _sampler(self) -> dict:
        return dict(
            type='MemorySampler', shots=self.shots, shots_seed=self.seed
        )

    @torch.no_grad()
    def _run(self, runner: Runner, model: nn.Module, loader) -> None:
        training = model.training
        model.eval()
        number = loader.sampler.first
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            labels = torch.cat([s.gt_label for s in data['data_samples']])
            feats = model.extract_feat(data['inputs'], stage='backbone')
            images = torch.arange(number, number + len(labels))
            model.head.fill(feats, labels, images)
            number += len(labels)
        model.train(training)
