"""A classification head without parameters: neighbours in a memory vote."""

from typing import List, Optional, Sequence, Tuple

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.registry import MODELS
from torch import Tensor

from ..geometry import ORTHANT_MAPS, to_positive_orthant
from ..memory import (
    PRIORS,
    MemoryBank,
    Pixels,
    Sites,
    bottleneck_pixels,
    build_search,
    prior,
    vote,
)
from .base import check_choice


@MODELS.register_module()
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
        orthant (str): ``rho``.
        keep (int, optional): Store the so many most energetic pixels of each
            training image; None stores all.
        dtype (str): Of the stored vectors.
        feature_plane (dict): Config of :class:`FeaturePlane`.
        seed (int): Of the ``'shuffled'`` control.
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
        orthant: str = 'relu',
        keep: Optional[int] = None,
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
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.k, self.mode, self.metric = k, mode, metric
        self.engine, self.plane, self.kappa = engine, plane, kappa
        self.sigma, self.width = sigma, width
        self.orthant, self.keep, self.dtype = orthant, keep, dtype
        self.seed = seed
        self.in_checkpoint = in_checkpoint
        self.feature_plane = MODELS.build(
            dict(type='FeaturePlane', in_channels=in_channels)
            | dict(feature_plane)
        )
        self.bank = MemoryBank(dtype)
        self._search = None
        self._sites: Optional[Tuple[Tensor, Sites]] = None

    @property
    def filling(self) -> str:
        """What decides the bank's content, beside backbone and data."""
        return (
            f'{self.mode},{self.orthant},keep={self.keep},{self.dtype},'
            f'{self.feature_plane.basis_type}'
        )

    def set_bank(self, bank: MemoryBank) -> None:
        """Use another bank.

        Raises:
            ValueError: If its dimension is another.
        """
        if bank.channels not in (None, self.in_channels):
            raise ValueError(
                f'the bank has {bank.channels} channels, head.in_channels='
                f'{self.in_channels}; fill a bank with this backbone'
            )
        self.bank = bank
        self._search = self._sites = None

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
        self._search = self._sites = None

    def _memory(self, device) -> Tuple[Tensor, Sites]:
        """Labels and sites of the whole bank."""
        if self._search is None:
            self._search = build_search(self.bank, self.engine, self.metric)
        if self._sites is None:
            positions = self.bank.field('positions')
            if self.plane == 'shuffled':
                generator = torch.Generator().manual_seed(self.seed)
                order = torch.randperm(len(positions), generator=generator)
                positions = positions[order]
            sites = Sites(positions, self.bank.field('hues'))
            self._sites = (self.bank.field('labels'), sites)
        labels, sites = self._sites
        return labels.to(device), Sites(*(s.to(device) for s in sites))

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
        labels, sites = self._memory(query.vectors.device)
        k = min(self.k, len(labels))
        found = self._search.search(query.vectors, k)
        index = found.indices.clamp_min(0)
        near = Sites(sites.positions[index], sites.hues[index])
        own = Sites(query.positions[:, None], query.hues[:, None])
        scores = vote(
            found.distances,
            labels[index],
            query.images,
            self.num_classes,
            count,
            prior(own, near, self.plane, self.kappa, self.sigma),
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
