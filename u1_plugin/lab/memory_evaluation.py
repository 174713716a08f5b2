"""A search, many votes: what kappa, k and the layer do to the accuracy."""

from typing import Dict, Iterable, List, Mapping, NamedTuple

import torch
from mmengine.evaluator import Evaluator
from mmpretrain.evaluation import (
    Accuracy,
    RetrievalAveragePrecision,
    RetrievalRecall,
    SingleLabelMetric,
)
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn.functional import normalize

from ..geometry import energy
from ..measure.probe_options import class_labels
from ..memory import (
    Kernel,
    MemoryBank,
    Queries,
    VotingRule,
    bottleneck_pixels,
    class_shares,
)
from ..mm.memory_options import memory_of
from .memory_maps import LayerView

KERNELS = ('position', 'radius')  # these take a sigma instead of a kappa
_RECALLS = (1, 5, 10)
_SHOWN = 5  # neighbours of a drawn query


class Grid(NamedTuple):
    """What is tried on one search."""

    plane: str
    strengths: List[float]  # kappa, or sigma for the kernels of the place
    ks: List[int]
    kernel: Kernel = Kernel()

    def __str__(self) -> str:
        ks = ' '.join(map(str, self.ks))
        return f'plane {self.plane}, {self.kernel}, k {ks}'

    def rule(self, strength: float) -> VotingRule:
        """How neighbours vote at one kappa, or one sigma."""
        name = 'sigma' if self.plane in KERNELS else 'kappa'
        return VotingRule(self.plane, kernel=self.kernel, **{name: strength})


def _ranked(sample: Mapping, count: int) -> Tensor:
    """Which of the ``count`` best images are relevant, best first."""
    order = sample['pred_score'].topk(count).indices
    return sample['gt_score'][order] > 0


# MMPretrain's two metrics call what numpy 2.4 no longer has.
class _Recall(RetrievalRecall):
    """Whether a relevant image is among the k best."""

    def process(self, data_batch, data_samples) -> None:
        for sample in data_samples:
            relevant = _ranked(sample, max(self.topk))
            self.results.append(
                [100 * relevant[:k].any().float() for k in self.topk]
            )


class _AveragePrecision(RetrievalAveragePrecision):
    """Mean precision at the ranks of the relevant images."""

    def process(self, data_batch, data_samples) -> None:
        for sample in data_samples:
            ranks = _ranked(sample, self.topk).nonzero()[:, 0].double() + 1
            hits = torch.arange(1, len(ranks) + 1)
            relevant = (sample['gt_score'] > 0).sum()
            self.results.append(100 * (hits / ranks).sum() / relevant)


class Metrics:
    """MMPretrain's, one evaluator a cell of the grid."""

    def __init__(self, grid: Grid, bank: MemoryBank, classes: int) -> None:
        topk = (1, 5) if classes > 5 else (1,)
        self.cells = {
            (strength, k): Evaluator([Accuracy(topk=topk), SingleLabelMetric()])
            for strength in grid.strengths
            for k in grid.ks
        }
        self.kernel = grid.kernel
        numbers, image = bank.field('images').unique(return_inverse=True)
        count = len(numbers)
        sums = torch.zeros(count, bank.channels)
        start = 0
        for block in bank.blocks():
            sums.index_add_(0, image[start : start + len(block)], block)
            start += len(block)
        self.vectors = normalize(sums, dim=1)  # of sums as of means
        self.labels = torch.zeros(count).long()
        self.labels[image] = bank.field('labels')
        recalls = [k for k in _RECALLS if k <= count]
        metrics = [_Recall(topk=recalls), _AveragePrecision(topk=count)]
        self.retrieval = Evaluator(metrics)
        self.count = 0

    def add(self, scores: Dict[tuple, Tensor], vectors: Tensor, labels) -> None:
        """Scores ``(B, K)`` a cell, mean vectors ``(B, C)``, ``(B,)``."""
        self.count += len(labels)
        for cell, evaluator in self.cells.items():
            evaluator.process(
                [
                    DataSample().set_gt_label(label).set_pred_score(row)
                    for row, label in zip(scores[cell].cpu(), labels)
                ]
            )
        similarity = normalize(vectors.cpu().float(), dim=1) @ self.vectors.T
        relevant = (labels[:, None] == self.labels).long()
        self.retrieval.process(
            [
                # Its label must be there, though its relevance decides.
                DataSample()
                .set_pred_score(row)
                .set_gt_score(truth)
                .set_gt_label(label)
                for row, truth, label in zip(similarity, relevant, labels)
                if truth.any()  # few shots or a coreset may leave a class out
            ]
        )

    def result(self) -> dict:
        """Evaluate what :meth:`add` was given.

        Returns:
            dict: ``rows``, one a cell of the grid with its settings, and
            ``retrieval``.
        """
        rows = [
            dict(
                strength=strength,
                k=k,
                kernel=self.kernel.name,
                **self.kernel.options,
                **evaluator.evaluate(self.count),
            )
            for (strength, k), evaluator in self.cells.items()
        ]
        return dict(rows=rows, retrieval=self.retrieval.evaluate(self.count))


def _drawn(query, intensity, neighbours, image: int, mode: str) -> dict:
    """The pixels of one image to draw, and the nearest of each."""
    rows = torch.nonzero(query.images == image)[:, 0]
    if mode == 'pooled':
        pairs = [(int(rows[0]), n) for n in range(neighbours.indices.size(1))]
    else:
        strongest = energy(intensity)[image].flatten()
        order = strongest.topk(min(_SHOWN, len(strongest))).indices
        pairs = [(int(rows[n]), 0) for n in order]
    return dict(
        mode=mode,
        map_shape=list(intensity.shape[2:]),
        pixels=[
            dict(
                position=query.positions[row].tolist(),
                distance=float(neighbours.distances[row, n]),
                image=int(neighbours.images[row, n]),
                label=int(neighbours.labels[row, n]),
                memory_position=neighbours.positions[row, n].tolist(),
            )
            for row, n in pairs[:_SHOWN]
            if neighbours.indices[row, n] >= 0
        ],
    )


def evaluate(
    view: LayerView, loader: Iterable, grid: Grid, draw: List[int]
) -> dict:
    """Search a filled head once, vote with every cell of the grid.

    Returns:
        dict: The metrics; the ``matches`` of the images whose numbers are to be
        drawn; and ``engine``, what searched in words.
    """
    head = view.head
    shuffle = head.seed if grid.plane == 'shuffled' else None
    options = (head.engine, head.metric, False, shuffle, max(grid.ks))
    memory = memory_of(head.bank, *options)
    metrics, matches, first = Metrics(grid, head.bank, head.num_classes), [], 0
    for batch in loader:
        data = view.data_preprocessor(batch, False)
        labels = class_labels(data['data_samples'])
        low, high = int(labels.min()), int(labels.max())
        if not 0 <= low <= high < head.num_classes:
            raise ValueError(
                f'the images have labels {low}..{high}, which do not fit '
                f'model.head.num_classes={head.num_classes}; set it to the '
                'number of classes of the data set'
            )
        intensity = head.pre_logits(view.extract_feat(data['inputs']))
        numbers = torch.arange(len(labels))
        query = bottleneck_pixels(
            intensity, labels, numbers, head.feature_plane, head.mode
        )
        queries = Queries(query.vectors, query.positions, query.hues)
        neighbours = memory.search(queries, max(grid.ks))
        sizes = head.num_classes, len(labels)
        scores = {
            (strength, k): class_shares(
                neighbours, query, *sizes, grid.rule(strength), k
            )
            for strength, k in metrics.cells
        }
        means = torch.zeros(len(labels), query.vectors.size(1))
        means.index_add_(0, query.images.cpu(), query.vectors.float().cpu())
        metrics.add(scores, means, labels)
        voted = next(iter(scores.values())).argmax(1)
        for number in draw:
            image = number - first
            if 0 <= image < len(labels):
                drawn = _drawn(query, intensity, neighbours, image, head.mode)
                true, guess = int(labels[image]), int(voted[image])
                matches.append(
                    dict(number=number, true=true, voted=guess, **drawn)
                )
        first += len(labels)
    return dict(metrics.result(), matches=matches, engine=str(memory))
