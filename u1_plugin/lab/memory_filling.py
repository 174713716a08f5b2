"""Fills the memory of one layer at a time, and shows how far it is."""

import copy
import logging
from argparse import Namespace
from typing import Iterator, NamedTuple, Optional

from mmengine.config import Config
from mmpretrain.registry import MODELS
from rich.progress import Progress
from torch import nn

from ..mm.hooks.memory_bank_hook import MemoryBankHook
from .memory_maps import LayerView, hook_options


class Tracked:
    """A data loader with a progress bar."""

    def __init__(self, loader, progress: Progress, text: str) -> None:
        self.loader, self.sampler = loader, loader.sampler
        self.dataset = loader.dataset
        self.progress, self.text = progress, text

    def __iter__(self) -> Iterator:
        return iter(
            self.progress.track(
                self.loader, total=len(self.loader), description=self.text
            )
        )


class ProgressHook(MemoryBankHook):
    """The hook, showing how far it is."""

    progress: Progress
    text: str

    def _run(self, runner, model: nn.Module, loader) -> None:
        loader = Tracked(loader, self.progress, self.text)
        super()._run(runner, model, loader)

    def images(self, run: 'FillingRun'):
        """The memorised data set, and the index of each image's number."""
        loader = self._images(run).build()
        return loader.dataset, loader.sampler.numbers


class FillingRun(NamedTuple):
    """What the hook asks of MMEngine's runner."""

    model: nn.Module
    cfg: Config
    logger: logging.Logger


def view_of(
    model: nn.Module, cfg: Config, layer, args: Namespace, batch
) -> LayerView:
    """The model with a fresh head for a layer."""
    view = LayerView(model, model.head, layer, args.token_grid)
    if layer is not None:
        data = model.data_preprocessor(copy.deepcopy(batch), False)
        (activation,) = view.extract_feat(data['inputs'])
        head = dict(cfg.model.head, in_channels=activation.size(1))
        view.head = MODELS.build(head).to(activation.device)
    return view.eval()


def hook_of(cfg: Config, layer: Optional[str], args: Namespace) -> ProgressHook:
    """The config's hook, with the command's options."""
    options = hook_options(cfg)
    if layer is not None:
        if options.get('mmap'):
            raise ValueError(
                f'--layers {layer}: the file of a MemoryBankHook with '
                'mmap=True holds the bank of one layer, the last; leave '
                '--layers out, or mmap'
            )
        options['file'] = None  # it holds the bank of one layer
    if args.shots is not None:
        options.update(shots=args.shots, seed=args.seed or 0)
    elif args.seed is not None:
        if options.get('shots') is None:
            raise ValueError(
                f'--seed={args.seed} draws shots, but there is no --shots and '
                "the config's hook has none; give --shots, or leave it out"
            )
        options['seed'] = args.seed
    return ProgressHook(**options)
