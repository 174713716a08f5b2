"""A classification head without parameters: neighbours in a memory vote."""

from typing import List, Literal, Optional, Sequence

import torch
from mmpretrain.models.heads import ClsHead
from torch import Tensor

from ..geometry import to_positive_orthant
from ..memory import (
    Bias,
    Matches,
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    Sites,
    bottleneck_pixels,
    check_engine,
    coreset,
)
from ..memory.vote import log_prior, vote_shares
from ..options import Count, NonNegative, Positive, Seed, Share, checked
from .memory_identity import check_bank, check_options, head_identity
from .memory_inputs import (
    check_finite,
    feature_plane_of,
    full_precision,
    last_map,
)


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
        ValueError: If an option is none of its kind or out of its range, or
            faiss does not know the engine.
    """

    @checked('head')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        k: Count = 10,
        mode: Literal['pixel', 'pooled'] = 'pixel',
        metric: Literal['cosine', 'l2'] = 'cosine',
        engine: str = 'exact',
        plane: Literal[
            'image', 'feature', 'both', 'position', 'radius', 'shuffled'
        ] = 'image',
        kappa: NonNegative = 0.0,
        sigma: Positive = 0.5,
        width: Optional[Positive] = None,
        prior_in: Literal['vote', 'search'] = 'vote',
        orthant: Literal['relu', 'abs', 'softplus', 'identity'] = 'relu',
        keep: Optional[Count] = None,
        coreset: Optional[Share] = None,
        dtype: Literal['float32', 'float16', 'uint8'] = 'float32',
        feature_plane: dict = dict(type='FeaturePlane'),
        seed: Seed = 0,
        in_checkpoint: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        try:
            check_engine(engine, metric, in_channels)
        except ValueError as error:
            raise ValueError(f'head.{error}') from error
        if prior_in == 'search' and (engine != 'exact' or width is None):
            raise ValueError(
                f"head.prior_in='search' needs engine='exact' (is {engine!r}) "
                f'and a width (is {width}), by which distance and place are '
                'weighed against each other'
            )
        self.num_classes, self.in_channels = num_classes, in_channels
        self.k, self.mode, self.metric = k, mode, metric
        self.engine, self.plane, self.kappa = engine, plane, kappa
        self.sigma, self.width = sigma, width
        self.prior_in, self.in_checkpoint = prior_in, in_checkpoint
        self.orthant, self.keep, self.dtype = orthant, keep, dtype
        self.coreset, self.seed = coreset, seed
        self.feature_plane = feature_plane_of(feature_plane, in_channels, plane)
        self.bank = MemoryBank(dtype)
        self._sharded = False
        self._memory: Optional[Memory] = None
        self._changes, self._options = None, ()

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
        self.bank, self._sharded = bank, sharded
        self._memory = self._changes = None

    def condense(self) -> None:
        """End the filling: reduce the bank to the config's coreset, if any."""
        if self.coreset is not None:
            index = coreset(
                self.bank, self.coreset, seed=self.seed, sharded=self._sharded
            )
            self.bank.keep(index)
        self.bank.finish()

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """The intensity map ``I = rho(A)`` of the last layer.

        Args:
            feats (Sequence[Tensor]): The backbone's outputs.

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
        return to_positive_orthant(last, self.orthant)

    def _pixels(self, feats, labels: Tensor, images: Tensor, keep) -> Pixels:
        intensity = self.pre_logits(feats)
        plane, mode = self.feature_plane, self.mode
        return bottleneck_pixels(intensity, labels, images, plane, mode, keep)

    @checked()
    @torch.no_grad()
    def fill(self, feats, labels: Tensor, images: Tensor) -> None:
        """Memorise a batch.

        Args:
            feats (Sequence[Tensor]): The backbone's outputs.
            labels (Tensor): ``(B,)``, integers.
            images (Tensor): Numbers of the images, ``(B,)``, integers.

        Raises:
            ValueError: If a label is outside ``0..K-1``, there is not one for
                each image, or the outputs are not finite.
        """
        if not len(labels):
            return
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ValueError(
                f'labels {int(labels.min())}..{int(labels.max())} do not fit '
                f'head.num_classes={self.num_classes}'
            )
        if not len(self.bank) and not self.bank.identity:
            self.set_bank(MemoryBank(self.dtype, head_identity(self)))
        check_finite(last_map(feats), together=False)
        with full_precision(last_map(feats)):
            self.bank.append(self._pixels(feats, labels, images, self.keep))

    def _current_memory(self) -> Memory:
        """The bank, ready to be searched as the options say now."""
        if not (self._sharded or len(self.bank)):
            raise ValueError(
                'head.bank is empty; fill it first, by custom_hooks='
                "[dict(type='MemoryBankHook')]"
            )
        check_options(self, self.bank)
        if self._changes != self.bank.changes:
            check_bank(self, self.bank)
            self._changes = self.bank.changes
        shuffle = self.seed if self.plane == 'shuffled' else None
        options = (self.engine, self.metric, self._sharded, shuffle)
        of_this = self._memory is not None and self._memory.bank is self.bank
        if not of_this or self._options != options:
            self._memory = Memory(self.bank, *options)
            self._options = options
        return self._memory

    def _search(self, query: Pixels) -> Matches:
        asked = Queries(query.vectors, query.positions, query.hues)
        bias = None
        if self.prior_in == 'search':
            here = Sites(*asked[1:])  # Memory puts in its own
            bias = Bias(
                here, here, self.plane, self.kappa, self.sigma, self.width
            )
        return self._current_memory().search(asked, self.k, bias)

    @torch.no_grad()
    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Log of the vote shares, so that their softmax gives the shares.

        Args:
            feats (Sequence[Tensor]): The backbone's outputs.

        Returns:
            Tensor: ``(B, K)``, float32; where nobody votes, all are equal.

        Raises:
            ValueError: If the bank is empty or does not fit this head, or the
                outputs are not finite.
        """
        last = last_map(feats)
        check_finite(last, self._sharded)
        with full_precision(last):
            return self._log_shares(feats, len(last))

    def _log_shares(self, feats: Sequence[Tensor], count: int) -> Tensor:
        images = torch.arange(count)
        query = self._pixels(feats, images, images, None)
        found = self._search(query)
        own = Sites(query.positions[:, None], query.hues[:, None])
        shares = vote_shares(
            found.distances,
            found.labels,
            query.images,
            self.num_classes,
            count,
            log_prior(own, found.sites, self.plane, self.kappa, self.sigma),
            self.width,
        ).float()
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
        if self.in_checkpoint and len(self.bank):
            for name, value in self.bank.state().items():
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
            bank = MemoryBank.from_state(tensors, name=f'checkpoint: {start}')
            # The plane's own state is loaded after this, and compared before
            # the first answer.
            check_bank(self, bank, aside=('feature_plane',))
            self.bank, self._sharded = bank, False
            self._memory = self._changes = None
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )
