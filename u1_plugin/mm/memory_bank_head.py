"""A classification head without parameters: neighbours in a memory vote."""

from typing import List, Optional, Sequence

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.registry import MODELS
from torch import Tensor

from ..geometry import ORTHANT_MAPS, to_positive_orthant
from ..memory import (
    PRIORS,
    Bias,
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    Sites,
    bottleneck_pixels,
    coreset,
    prior,
    vote,
)
from ..nn.base import check_choice


class MemoryBankHead(ClsHead):
    """Classifies by the k nearest bottleneck pixels of the training images.

    Score of class c: the sum over an image's pixels and their neighbours of
    ``[label = c] w(d) exp(kappa (cos(delta theta) - 1))``. ``MemoryBankHook``
    fills the memory before validation or test. Use it with ``neck=None``, so
    that the backbone's map arrives.

    Args:
        num_classes (int): K.
        in_channels (int): C of the map.
        k (int): Neighbours of each pixel.
        mode (str): ``'pixel'`` or ``'pooled'`` (one vector an image).
        metric (str): ``'cosine'`` or ``'l2'``.
        engine (str): ``'exact'`` or ``'faiss:FACTORY'``.
        plane (str): Which angle biases the vote: ``'image'``, ``'feature'``,
            ``'both'``; or a control: ``'position'``, ``'radius'`` (these two
            ignore kappa) or ``'shuffled'``, the bank's positions permuted once.
        kappa (float): >= 0; 0 is the plain vote.
        sigma (float): Kernel width of the controls, in half diagonals.
        width (float, optional): Kernel width of the distance; None counts all
            neighbours alike.
        prior_in (str): ``'vote'`` weights the k nearest; ``'search'`` takes
            the k greatest votes of the whole memory (exact engine, with a
            ``width``).
        orthant (str): ``rho``.
        keep (int, optional): Store the so many most energetic pixels of each
            training image; None stores all.
        coreset (float, optional): Keep this share of the stored pixels, chosen
            to cover the rest (see :func:`u1_plugin.memory.coreset`).
        dtype (str): Of the stored vectors.
        feature_plane (dict): Config of :class:`FeaturePlane`.
        seed (int): Of the ``'shuffled'`` control and the coreset.
        in_checkpoint (bool): Whether checkpoints hold the bank.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        k: int = 10,
        mode: str = 'pixel',
        metric: str = 'cosine',
        engine: str = 'exact',
        plane: str = 'image',
        kappa: float = 0.0,
        sigma: float = 0.5,
        width: Optional[float] = None,
        prior_in: str = 'vote',
        orthant: str = 'relu',
        keep: Optional[int] = None,
        coreset: Optional[float] = None,
        dtype: str = 'float32',
        feature_plane: dict = dict(type='FeaturePlane'),
        seed: int = 0,
        in_checkpoint: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_choice('head.mode', mode, ('pixel', 'pooled'))
        check_choice('head.metric', metric, ('cosine', 'l2'))
        check_choice('head.plane', plane, PRIORS)
        check_choice('head.prior_in', prior_in, ('vote', 'search'))
        check_choice('head.orthant', orthant, ORTHANT_MAPS)
        if (
            k < 1
            or kappa < 0
            or sigma <= 0
            or (width is not None and width <= 0)
        ):
            raise ValueError(
                f'head: k={k} must be >= 1, kappa={kappa} >= 0, '
                f'sigma={sigma} > 0 and width={width} > 0 or None'
            )
        if prior_in == 'search' and (engine != 'exact' or width is None):
            raise ValueError(
                f"head.prior_in='search' needs engine='exact' (is {engine!r}) "
                f'and a width (is {width}), by which distance and place are '
                'weighed against each other'
            )
        if coreset is not None and not 0 < coreset <= 1:
            raise ValueError(
                f'head.coreset={coreset} must be in (0, 1], or None for all'
            )
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.k, self.mode, self.metric = k, mode, metric
        self.engine, self.plane, self.kappa = engine, plane, kappa
        self.sigma, self.width = sigma, width
        self.prior_in = prior_in
        self.orthant, self.keep, self.dtype = orthant, keep, dtype
        self.coreset = coreset
        self.seed = seed
        self.in_checkpoint = in_checkpoint
        self.feature_plane = MODELS.build(
            dict(type='FeaturePlane', in_channels=in_channels)
            | dict(feature_plane)
        )
        self.bank = MemoryBank(dtype)
        self._sharded = False
        self._memory: Optional[Memory] = None

    @property
    def filling(self) -> str:
        """What decides the bank's content, beside backbone and data."""
        return (
            f'{self.mode},{self.orthant},keep={self.keep},'
            f'coreset={self.coreset},{self.dtype},'
            f'{self.feature_plane.basis_type}'
        )

    def set_bank(self, bank: MemoryBank, sharded: bool = False) -> None:
        """Use another bank.

        Args:
            bank (MemoryBank): Of ``in_channels``.
            sharded (bool): Whether it is one rank's part of the memory.

        Raises:
            ValueError: If its dimension is another.
        """
        if bank.channels not in (None, self.in_channels):
            raise ValueError(
                f'the bank has {bank.channels} channels, head.in_channels='
                f'{self.in_channels}; fill a bank with this backbone'
            )
        self.bank = bank
        self._sharded = sharded
        self._memory = None

    def condense(self) -> None:
        """Reduce the bank to its coreset, if the config asks for one."""
        if self.coreset is not None:
            index = coreset(
                self.bank, self.coreset, seed=self.seed, sharded=self._sharded
            )
            self.bank.keep(index)
            self._memory = None

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The intensity map ``I = rho(A)`` of the last layer.

        Args:
            feats (Sequence[Tensor]): The backbone's outputs.

        Returns:
            Tensor: ``(B, C, H, W)``, float32 or wider.

        Raises:
            ValueError: If the last output is no map of ``in_channels``.
        """
        last = feats[-1] if isinstance(feats, (tuple, list)) else feats
        if last.ndim != 4 or last.size(1) != self.in_channels:
            raise ValueError(
                f'model.head got {tuple(last.shape)}, expected a map (B, '
                f'{self.in_channels}, H, W); set model.neck=None and '
                'model.head.in_channels'
            )
        return to_positive_orthant(last, self.orthant)

    def _pixels(self, feats, labels: Tensor, images: Tensor, keep) -> Pixels:
        intensity = self.pre_logits(feats)
        plane, mode = self.feature_plane, self.mode
        return bottleneck_pixels(intensity, labels, images, plane, mode, keep)

    def fill(self, feats, labels: Tensor, images: Tensor) -> None:
        """Memorise a batch.

        Args:
            feats (Sequence[Tensor]): The backbone's outputs.
            labels (Tensor): ``(B,)``.
            images (Tensor): Numbers of the images, ``(B,)``.

        Raises:
            ValueError: If a label is outside ``0..K-1``.
        """
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ValueError(
                f'labels {int(labels.min())}..{int(labels.max())} do not fit '
                f'head.num_classes={self.num_classes}'
            )
        self.bank.append(self._pixels(feats, labels, images, self.keep))
        self._memory = None

    def _search(self, query: Pixels):
        if self._memory is None:
            shuffle = self.seed if self.plane == 'shuffled' else None
            self._memory = Memory(
                self.bank, self.engine, self.metric, self._sharded, shuffle
            )
        asked = Queries(query.vectors, query.positions, query.hues)
        bias = None
        if self.prior_in == 'search':
            here = Sites(*asked[1:])  # Memory puts in its own
            bias = Bias(
                here, here, self.plane, self.kappa, self.sigma, self.width
            )
        return self._memory.search(asked, self.k, bias)

    @torch.no_grad()
    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Log of the vote shares, so that their softmax gives the shares.

        Args:
            feats (Sequence[Tensor]): The backbone's outputs.

        Returns:
            Tensor: ``(B, K)``; where nobody votes, all are equal.

        Raises:
            ValueError: If the bank is empty.
        """
        count = len(feats[-1] if isinstance(feats, (tuple, list)) else feats)
        images = torch.arange(count)
        query = self._pixels(feats, images, images, None)
        found = self._search(query)
        own = Sites(query.positions[:, None], query.hues[:, None])
        scores = vote(
            found.distances,
            found.labels,
            query.images,
            self.num_classes,
            count,
            prior(own, found.sites, self.plane, self.kappa, self.sigma),
            self.width,
        )
        total = scores.sum(1, keepdim=True)
        shares = torch.where(
            total > 0, scores / total, torch.full_like(scores, 1)
        )
        return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()

    def loss(self, feats, data_samples: List, **kwargs) -> dict:
        """A memory is filled, not trained.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            'model.head=MemoryBankHead has nothing to train; run tools/test.py '
            "with custom_hooks=[dict(type='MemoryBankHook')]"
        )

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.in_checkpoint:
            for name, value in self.bank.tensors().items():
                destination[f'{prefix}bank.{name}'] = value

    def _load_from_state_dict(
        self, state_dict, prefix, metadata, strict, missing, unexpected, errors
    ) -> None:
        start = f'{prefix}bank.'
        tensors = {
            name[len(start) :]: state_dict.pop(name)
            for name in list(state_dict)
            if name.startswith(start)
        }
        if tensors:
            bank = MemoryBank(self.dtype)
            bank.set_tensors(tensors)
            self.set_bank(bank)
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )
