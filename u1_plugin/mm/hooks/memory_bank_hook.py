"""Fills a :class:`MemoryBankHead` from the training images."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Optional, Union

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from ...dist import all_gather_object, get_dist_info, together
from ...files import check_writable
from ...memory import MemoryBank, bank_on_disk
from ...networks import unwrapped, weights_digest
from ...options import Count, Seed, checked
from ..memory_bank_head import MemoryBankHead
from ..memory_identity import differing, model_identity
from ..memory_loader import (
    MemoryImages,
    NoImagesError,
    check_batches,
    memorise,
)


class MemoryBankHook(Hook):
    """Runs the frozen backbone over the training images once, before a test.

    The images are those of the training data set, each once, with the
    pipeline of the test loader, in order and without augmentation. In a
    distributed run every rank fills and searches its own part of them, and
    the answers are those of one process.

    A bank answers only for what made it: the images' content, labels and
    choice, their pipeline, the data preprocessor, the backbone's weights and
    configuration, the loop's precision (``test_cfg.fp16``), and the head's
    options. A bank of another make is refused, by the name of what differs, if
    it comes from a file or a checkpoint, and filled again if this hook filled
    it.

    Args:
        dataloader (dict, optional): Another loader's config. Its sampler is
            replaced by :class:`MemorySampler`.
        file (str, optional): Where the bank lies beside the checkpoint. An
            existing file is read. If weights change within an evaluation, as by
            ``EMAHook``'s ``evaluate_on_origin``, it has the first bank (with
            ``mmap`` the last). None keeps the bank in memory. Distributed, each
            rank has a file of its own, ``name.0-of-2.safetensors``.
        shots (int, optional): Memorise only so many images of each class.
        seed (int): Which ones.
        mmap (bool): Leave the bank in its file, where it is filled and
            searched block by block: for one larger than memory.

    Raises:
        TypeError: If the model has no :class:`MemoryBankHead`.
        ValueError: If an option is none of its kind, there are no training
            images to memorise, the file cannot be written or is of another
            make, or if a distributed bank is to lie in checkpoints, of which
            only one rank writes.
    """

    priority = 'LOW'

    @checked('MemoryBankHook')
    def __init__(
        self,
        dataloader: Optional[dict] = None,
        file: Optional[Union[str, os.PathLike]] = None,
        shots: Optional[Count] = None,
        seed: Seed = 0,
        mmap: bool = False,
    ) -> None:
        if dataloader is not None and 'dataset' not in dataloader:
            raise ValueError(
                f'MemoryBankHook.dataloader has {sorted(dataloader)}, but no '
                'dataset, whose images are to be memorised; give it one'
            )
        if mmap and file is None:
            raise ValueError(
                'MemoryBankHook.mmap=True leaves the bank in its file, but '
                'MemoryBankHook.file=None; name a file'
            )
        if seed and shots is None:
            raise ValueError(
                f'MemoryBankHook.seed={seed} draws shots, but MemoryBankHook.'
                'shots=None takes all images; give shots, or leave it out'
            )
        self.dataloader, self.mmap = dataloader, mmap
        self.shots, self.seed = shots, seed
        self.file = None if file is None else Path(file)
        self._filled: Optional[MemoryBank] = None
        self._checked: tuple = (None, {})
        self._wrote = False  # the file is of this run
        self._has_begun = False  # the evaluation, with the file's bank
        self._fp16 = False  # whether the loop predicts in mixed precision

    def before_test(self, runner: Runner) -> None:
        """Fill, unless the bank is filled (from the checkpoint)."""
        self._begin(runner, 'test')

    def before_val(self, runner: Runner) -> None:
        self._begin(runner, 'val')

    def _begin(self, runner: Runner, kind: str) -> None:
        check_batches(runner, f'{kind}_dataloader')
        self._checked, self._has_begun = (None, {}), False
        self._fp16 = getattr(getattr(runner, f'{kind}_loop'), 'fp16', False)
        # `EMAHook` puts its weights in place after this, before the epoch.
        if not any(isinstance(hook, EMAHook) for hook in runner.hooks):
            self.fill(runner)
            self._has_begun = True

    def before_test_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Fill, if another hook has changed the weights meanwhile."""
        if batch_idx == 0:
            model = self._model(runner)
            bank, identity = self._checked
            is_checked = bank is model.head.bank
            is_current = is_checked and identity == self._model_identity(model)
            if not all(all_gather_object(is_current)):
                self.fill(runner)
            self._has_begun = True

    before_val_iter = before_test_iter

    def after_test(self, runner: Runner) -> None:
        """Empty a bank of weights that `EMAHook` has taken out again."""
        self._has_begun, model = False, self._model(runner)
        if not model.head.refilled:
            return
        bank_weights = model.head.bank.identity.get('backbone_weights')
        if bank_weights != weights_digest(model.backbone):
            runner.logger.info('memory: emptied, it is of the averaged weights')
            model.head.set_bank(MemoryBank(model.head.dtype))

    after_val = after_test

    @staticmethod
    def _model(runner: Runner) -> nn.Module:
        model = unwrapped(runner.model)
        head = getattr(model, 'head', None)
        if not isinstance(head, MemoryBankHead):
            raise TypeError(
                f'MemoryBankHook: model.head is {type(head).__name__}, not '
                'MemoryBankHead; set model.head or leave the hook out'
            )
        return model

    def fill(self, runner: Runner) -> None:
        """Fill the bank or read it from :attr:`file`."""
        model = self._model(runner)
        head = model.head
        filled = any(all_gather_object(len(head.bank)))
        if filled and head.bank is not self._filled:
            together(self._compare, runner, model)
        else:
            self._fill_or_read(runner, model, filled)
            self._filled, head.refilled = head.bank, True
        self._checked = head.bank, self._model_identity(model)

    def _model_identity(self, model: nn.Module) -> Dict[str, str]:
        pieces = model_identity(model)
        return dict(pieces, precision='mixed') if self._fp16 else pieces

    def _fill_or_read(
        self, runner: Runner, model: nn.Module, refill: bool
    ) -> None:
        head, (rank, world) = model.head, get_dist_info()
        if world > 1 and head.in_checkpoint:
            raise ValueError(
                'model.head.in_checkpoint=True, but one rank writes '
                f'checkpoints and {world} share the bank; set the file of '
                'MemoryBankHook instead'
            )
        if self.mmap and head.in_checkpoint:
            raise ValueError(
                'model.head.in_checkpoint=True writes the whole bank into '
                'checkpoints, which MemoryBankHook.mmap=True is to avoid; '
                'choose one'
            )
        images = self._images(runner)
        loader = together(images.build)
        identity = together(images.identity, loader, loader.sampler.numbers)
        identity.update(self._model_identity(model), rank=f'{rank} of {world}')
        if refill:
            changed = differing(identity, head.bank.identity)
            changed = sorted({*sum(all_gather_object(changed), [])})
            if not changed:
                return
            runner.logger.info(f'memory: filled again, {changed} changed')
        # What this run wrote it may replace; a file from before it may not.
        if self._wrote or not self._read(runner, head, identity):
            self._fill(runner, model, loader, identity)

    def _rank_file(self) -> Optional[Path]:
        rank, world = get_dist_info()
        file = None if self._has_begun and not self.mmap else self.file
        if file is None or world == 1:
            return file
        return file.with_name(f'{file.stem}.{rank}-of-{world}{file.suffix}')

    def _read(
        self, runner: Runner, head: MemoryBankHead, identity: Dict[str, str]
    ) -> bool:
        """Take the bank from the file, if every rank has one."""
        file = self._rank_file()
        if file is None:
            return False
        exists, bank = all_gather_object(os.path.lexists(file)), None
        if exists[get_dist_info()[0]]:
            # A part alone is of no use, but must be ours to be overwritten.
            bank = together(self._load, file, identity)
        else:
            together(check_writable, file, 'MemoryBankHook.file', True)
        if not all(exists):
            return False
        together(head.set_bank, bank, len(exists) > 1)
        runner.logger.info(f'memory: {len(head.bank)} of {file}')
        return True

    def _load(self, file: Path, identity: Dict[str, str]) -> MemoryBank:
        try:
            return MemoryBank.load(file, identity, mmap=self.mmap)
        except ValueError as error:
            raise ValueError(f'MemoryBankHook.file: {error}') from error

    def _check_meanwhile(self, identity: Dict[str, str]) -> None:
        """Raise ValueError if another run wrote another bank meanwhile."""
        file = self._rank_file()
        if file and not self._wrote and os.path.lexists(file):
            self._load(file, identity)

    def _fill(
        self,
        runner: Runner,
        model: nn.Module,
        loader: DataLoader,
        identity: Dict[str, str],
    ) -> None:
        head, file, (_, world) = model.head, self._rank_file(), get_dist_info()
        with ExitStack() as stack:
            bank = MemoryBank(head.dtype, identity)
            if self.mmap:
                disk = bank_on_disk(file, head.dtype, identity)
                bank = together(stack.enter_context, disk)
            head.set_bank(bank, world > 1)
            try:
                together(self._run, runner, model, loader)
                head.condense()
                together(self._check_meanwhile, identity)
                together(stack.pop_all().close)
            except BaseException:
                head.set_bank(MemoryBank(head.dtype))  # half a memory is none
                raise
        size = f'{len(head.bank)} vectors, {head.bank.nbytes / 2**20:.1f} MiB'
        each = f' on each of {world} ranks' * (world > 1)
        runner.logger.info(f'memory: {size}{each}')
        if file is not None and not self.mmap:
            together(head.bank.save, file)
        self._wrote = self._wrote or file is not None

    def _compare(self, runner: Runner, model: nn.Module) -> None:
        """Raise ValueError unless a bank that came otherwise is the right one.

        Where its images are not at hand, they are not compared, and the log
        says so: a checkpoint with a bank answers without them.
        """
        stored = model.head.bank.identity
        if 'images' not in stored:
            raise ValueError(
                'model.head.bank holds vectors of unknown images, which '
                'MemoryBankHook did not fill; leave the hook out to use them, '
                'or empty the bank by head.set_bank(MemoryBank())'
            )
        expected = self._model_identity(model)
        try:
            images = self._images(runner)
            loader = images.build()
            expected.update(images.identity(loader, loader.sampler.chosen))
        except (OSError, RuntimeError, NoImagesError) as error:
            expected = dict(stored, **expected)
            runner.logger.warning(
                "memory: the bank's images are not compared with those of the "
                f'config, which are not at hand: {error}'
            )
        names = differing(dict(expected, rank=stored.get('rank', '')), stored)
        if names:
            raise ValueError(
                f'model.head.bank was made with other {", ".join(names)} than '
                'this run has; use the config, images and weights that made '
                'it, or have a bank filled again: load weights without one'
            )

    def _images(self, runner: Runner) -> MemoryImages:
        return MemoryImages(runner.cfg, self.dataloader, self.shots, self.seed)

    def _run(self, runner: Runner, model: nn.Module, loader) -> None:
        memorise(model, loader, self._fp16)
