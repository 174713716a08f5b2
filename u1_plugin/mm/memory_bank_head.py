"""A classification head without parameters: neighbours in a memory vote."""

import logging
from typing import Any, Dict, List, Literal, Optional, Sequence

import torch
from mmpretrain.models.heads import ClsHead
from torch import Tensor

from ..geometry import scales, to_positive_orthant
from ..memory import (
    FaissEngine,
    Memory,
    MemoryBank,
    Pixels,
    PriorBias,
    Queries,
    VotingRule,
    bottleneck_pixels,
    class_shares,
    coreset,
    kernel_of,
)
from ..memory.kernels import KernelName
from ..memory.priors import PriorPlane
from ..memory.search import Metric
from ..memory.storage import StorageDtype
from ..options import Count, NonNegative, Positive, Seed, Share, checked
from .memory_identity import check_bank, check_options, head_identity
from .memory_inputs import check_finite, check_labels, last_map, plane_of
from .memory_options import check_read, check_vote, memory_of, with_protocol

_logger = logging.getLogger('u1_plugin')


class MemoryBankHead(ClsHead):
    """Classifies by the k nearest bottleneck pixels of the training images.

    Score of class c: the sum over an image's pixels and their neighbours of
    ``[label = c] w(d) exp(kappa (cos(delta theta) - 1))``. ``MemoryBankHook``
    fills the memory before validation or test. Use it with ``neck=None``, so
    that the backbone's map arrives. ``docs/memory_bank.md`` has a table of the
    options.

    Args:
        num_classes (int): K.
        in_channels (int): C of the map.
        k (int): Neighbours of each pixel.
        mode (str): ``'pixel'`` or ``'pooled'`` (one vector an image).
        metric (str): ``'cosine'`` or ``'l2'``.
        engine (dict | str): Such as ``'exact'`` or ``'faiss:HNSW32'``.
        plane (str): The angle that biases the vote, or a control.
        kappa (float): >= 0, of the angles; 0 is the plain vote.
        sigma (float): > 0, of the controls, in half diagonals of the map.
        kernel (str, optional): See :func:`u1_plugin.memory.kernel_of`.
        width (float, optional): h of the gaussian kernel, > 0.
        temperature (float, optional): T of the softmax kernel, > 0.
        protocol (str, optional): ``'dino'``: the weighted vote of DINO.
        prior_in (str): ``'vote'`` or ``'search'``.
        orthant (str): ``rho``.
        keep (int, optional): Pixels of each training image; None is all.
        coreset (float, optional): Share of the pixels; None keeps all.
        coreset_sample (float, optional): Share of which it is chosen.
        dtype (str): Of the stored vectors.
        feature_plane (dict): Config of :class:`~u1_plugin.nn.FeaturePlane`.
        seed (int): Of the ``'shuffled'`` control and the coreset.
        in_checkpoint (bool): Whether checkpoints hold the bank.

    Raises:
        ValueError: If an option is none of its kind or out of its range, does
            not fit another, or is not read; or faiss does not know the engine.
    """

    @with_protocol
    @checked('model.head')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        k: Count = 10,
        mode: Literal['pixel', 'pooled'] = 'pixel',
        metric: Metric = 'cosine',
        engine: Any = 'exact',
        plane: PriorPlane = 'image',
        kappa: NonNegative = 0.0,
        sigma: Positive = 0.5,
        kernel: Optional[KernelName] = None,
        width: Optional[Positive] = None,
        temperature: Optional[Positive] = None,
        protocol: Optional[Literal['dino']] = None,
        prior_in: Literal['vote', 'search'] = 'vote',
        orthant: Literal['relu', 'abs', 'softplus', 'identity'] = 'relu',
        keep: Optional[Count] = None,
        coreset: Optional[Share] = None,
        coreset_sample: Optional[Share] = None,
        dtype: StorageDtype = 'float32',
        feature_plane: dict = dict(type='FeaturePlane'),
        seed: Seed = 0,
        in_checkpoint: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel = kernel_of(kernel, width, temperature, 'model.head.')
        self.engine = check_vote(
            engine, self.kernel, metric, prior_in, in_channels
        )
        self.num_classes, self.in_channels = num_classes, in_channels
        self.k, self.mode, self.metric = k, mode, metric
        self.plane, self.kappa, self.sigma = plane, kappa, sigma
        self.protocol, self.prior_in = protocol, prior_in
        self.orthant, self.keep, self.dtype = orthant, keep, dtype
        self.coreset, self.coreset_sample = coreset, coreset_sample
        self.seed, self.in_checkpoint = seed, in_checkpoint
        check_read(self)
        self.feature_plane = plane_of(feature_plane, in_channels, plane)
        self._take_bank(MemoryBank(dtype), False)
        self._options: tuple = ()
        self.train()

    def train(self, mode: bool = True) -> 'MemoryBankHead':
        super().train(mode).feature_plane.eval()  # it learns nothing
        return self

    @checked('model.head')
    def set_bank(self, bank: MemoryBank, sharded: bool = False) -> None:
        """Use another bank.

        Args:
            bank (MemoryBank): Of ``in_channels``.
            sharded (bool): Whether it is one rank's part of the memory.

        Raises:
            ValueError: If its dimension or a label does not fit this head, or
                a head of other options filled it.
        """
        check_bank(self, bank)
        self._take_bank(bank, sharded)

    def _take_bank(self, bank: MemoryBank, sharded: bool) -> None:
        self.bank, self._sharded = bank, sharded
        self.refilled = False  # whether a hook filled it, and does so again
        self._memory: Optional[Memory] = None
        self._changes: Optional[str] = None

    def __getstate__(self) -> Dict[str, Any]:
        """A copy has the bank, and prepares its search when it is asked."""
        return {**self.__dict__, '_memory': None}

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.in_checkpoint and len(self.bank):
            for name, value in self.bank.state().items():
                destination[f'{prefix}bank.{name}'] = value

    def _load_from_state_dict(self, state_dict, prefix: str, *args) -> None:
        start = f'{prefix}bank.'
        names = [name for name in state_dict if name.startswith(start)]
        tensors = {name[len(start) :]: state_dict.pop(name) for name in names}
        if tensors:
            bank = MemoryBank.from_state(tensors, name=f'checkpoint: {start}')
            # The plane's own state is loaded after this, and compared before
            # the first answer.
            check_bank(self, bank, aside=('feature_plane',))
            self._take_bank(bank, False)
        elif (self.in_checkpoint or self.refilled) and len(self.bank):
            _logger.warning('memory: emptied, other weights were loaded')
            self._take_bank(MemoryBank(self.dtype), False)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def rule(self) -> VotingRule:
        """How neighbours vote."""
        return VotingRule(self.plane, self.kappa, self.sigma, self.kernel)

    def condense(self) -> None:
        """End the filling: reduce the bank to the config's coreset, if any."""
        if self.coreset is not None:
            how = dict(sharded=self._sharded, sample=self.coreset_sample)
            how.update(seed=self.seed, metric=self.metric)
            self.bank.keep(coreset(self.bank, self.coreset, **how))
        self.bank.finish()

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The intensity map ``I = rho(A)`` of the backbone's last output.

        Returns:
            Tensor: ``(B, C, H, W)``, float32 or wider.

        Raises:
            ValueError: If the last output is no map of ``in_channels``.
        """
        last = last_map(feats)
        if last.ndim != 4 or last.size(1) != self.in_channels:
            raise ValueError(
                f'model.head got {tuple(last.shape)}, expected a map (B, '
                f'{self.in_channels}, H, W); set model.neck=None and '
                'model.head.in_channels'
            )
        last = scales.as_wide('feats', last)
        return to_positive_orthant(last, self.orthant)

    def _pixels(self, feats, labels: Tensor, images: Tensor, keep) -> Pixels:
        plane, mode = self.feature_plane, self.mode
        # Neighbours are compared in float32 under AMP, too.
        with scales.without_autocast(last_map(feats).device):
            intensity = self.pre_logits(feats)
            return bottleneck_pixels(
                intensity, labels, images, plane, mode, keep
            )

    @checked()
    @torch.no_grad()
    def fill(self, feats, labels: Tensor, images: Tensor) -> None:
        """Memorise a batch.

        Args:
            feats (Sequence[Tensor]): The backbone's outputs.
            labels (Tensor): ``(B,)``, integers.
            images (Tensor): Numbers of the images, ``(B,)``, integers.

        Raises:
            ValueError: If a label is none or does not fit the images, outputs
                are not finite, or a head of other options filled the bank.
        """
        check_labels(labels, self.num_classes)
        if not len(labels):
            return
        if not len(self.bank) and not self.bank.identity:
            identity = dict(head_identity(self), dtype=self.bank.dtype)
            self.bank.identity.update(identity)
        check_options(self, self.bank)
        check_finite(last_map(feats), together=False)
        self.bank.append(self._pixels(feats, labels, images, self.keep))

    def _current_memory(self) -> Memory:
        """The bank, ready to be searched as the options say now."""
        if not (self._sharded or len(self.bank)):
            raise ValueError(
                'model.head.bank is empty; fill it first, by custom_hooks='
                "[dict(type='MemoryBankHook')]"
            )
        check_options(self, self.bank)
        if self._changes != self.bank.changes:
            check_bank(self, self.bank)
            self._changes = self.bank.changes
        shuffle = self.seed if self.plane == 'shuffled' else None
        options = (self.engine, self.metric, self._sharded, shuffle)
        if isinstance(self.engine, FaissEngine):
            options += (self.k,)  # of which its recall is measured
        of_this = self._memory is not None and self._memory.bank is self.bank
        if not of_this or self._options != options:
            self._memory = memory_of(self.bank, *options)
            self._options = options
            line = 'memory: %d pixels, %s; k %d, metric %s, %s'
            args = (self._memory.size, self._memory, self.k, self.metric)
            _logger.info(line, *args, self.rule)
        return self._memory

    @torch.no_grad()
    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Log of the vote shares, so that their softmax gives the shares.

        Returns:
            Tensor: ``(B, K)``, float32; where nobody votes, all are equal.

        Raises:
            ValueError: If the bank is empty or does not fit this head, or the
                outputs are not finite.
        """
        last = last_map(feats)
        check_finite(last, self._sharded)
        images, bias = torch.arange(len(last)), None
        query = self._pixels(feats, images, images, None)
        queries = Queries(query.vectors, query.positions, query.hues)
        if self.prior_in == 'search':
            # The memory puts in its own.
            places = queries.coordinates, queries.coordinates
            options = (self.plane, self.kappa, self.sigma)
            bias = PriorBias(*places, *options, **self.kernel.options)
        neighbours = self._current_memory().search(queries, self.k, bias)
        votes = neighbours, query, self.num_classes, len(images), self.rule
        shares = class_shares(*votes).float()
        return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()

    def loss(self, feats, data_samples: List, **kwargs) -> dict:
        """Raise RuntimeError: a memory is filled, not trained."""
        raise RuntimeError(
            'model.head=MemoryBankHead has nothing to train; run tools/test.py '
            "with custom_hooks=[dict(type='MemoryBankHook')]"
        )
