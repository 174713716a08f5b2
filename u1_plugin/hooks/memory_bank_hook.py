"""Fills a :class:`MemoryBankHead` from the training images."""

import copy
import hashlib
from pathlib import Path
from typing import Optional

import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from ..memory import MemoryBank
from ..models.memory_bank_head import MemoryBankHead


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
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()[:32]


@HOOKS.register_module()
class MemoryBankHook(Hook):
    """Runs the frozen backbone over the training images once, before a test.

    The images come from the training data set with the test pipeline, in
    order and without augmentation.

    Args:
        dataloader (dict, optional): Another loader's config.
        file (str, optional): Where the bank lies beside the checkpoint. An
            existing file is read, if this backbone and these images made it,
            and refused otherwise. None keeps the bank in memory.

    Raises:
        TypeError: If the model has no :class:`MemoryBankHead`.
        ValueError: If there are no training images to memorise.
        RuntimeError: In a distributed run.
    """

    priority = 'LOW'  # after EMA has put its weights in place

    def __init__(
        self, dataloader: Optional[dict] = None, file: Optional[str] = None
    ) -> None:
        self.dataloader = dataloader
        self.file = None if file is None else Path(file)

    def before_test(self, runner: Runner) -> None:
        """Fill, unless the bank is filled (from the checkpoint)."""
        self.fill(runner)

    def before_val(self, runner: Runner) -> None:
        """As before a test."""
        self.fill(runner)

    def fill(self, runner: Runner) -> None:
        """Fill the bank or read it from :attr:`file`."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        head = getattr(model, 'head', None)
        if not isinstance(head, MemoryBankHead):
            raise TypeError(
                f'MemoryBankHook: model.head is {type(head).__name__}, not '
                'MemoryBankHead; set model.head or leave the hook out'
            )
        if len(head.bank):
            return
        if get_world_size() > 1:
            raise RuntimeError(
                'MemoryBankHook fills in one process; run without --launcher'
            )
        config = self._loader_config(runner)
        name = fingerprint(model.backbone, head.filling, repr(config.dataset))
        if self.file is not None and self.file.exists():
            head.set_bank(MemoryBank.load(self.file, name, head.in_channels))
            runner.logger.info(f'memory: {len(head.bank)} of {self.file}')
            return
        head.set_bank(MemoryBank(head.dtype, name))
        self._run(runner, model, Runner.build_dataloader(config))
        runner.logger.info(
            f'memory: {len(head.bank)} vectors, '
            f'{head.bank.nbytes / 2**20:.1f} MiB'
        )
        if self.file is not None:
            head.bank.save(self.file)

    def _loader_config(self, runner: Runner):
        if self.dataloader is not None:
            return ConfigDict(self.dataloader)
        config = copy.deepcopy(runner.cfg.get('train_dataloader'))
        if config is None:
            raise ValueError(
                'MemoryBankHook: the config has no train_dataloader to '
                'memorise; set custom_hooks=[dict(type="MemoryBankHook", '
                'dataloader=dict(...))]'
            )
        pipeline = runner.cfg.test_dataloader.dataset.pipeline
        config.dataset.pipeline = copy.deepcopy(pipeline)
        config.sampler = dict(type='DefaultSampler', shuffle=False)
        return config

    @torch.no_grad()
    def _run(self, runner: Runner, model: nn.Module, loader) -> None:
        training = model.training
        model.eval()
        number = 0
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            labels = torch.cat([s.gt_label for s in data['data_samples']])
            feats = model.extract_feat(data['inputs'], stage='backbone')
            images = torch.arange(number, number + len(labels))
            model.head.fill(feats, labels, images)
            number += len(labels)
        model.train(training)
