"""How well frozen features serve another data set."""

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from ...extras import needs
from ...mm.memory_bank_head import MemoryBankHead
from ...options import checked
from .behaviour import BATCH
from .behaviour_features import features
from .evaluated_images import LabelledImages, Splits

with needs('lab'):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

#: What the linear probe may choose from, by the validation split.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_ITERATIONS = 2000


class Vectors(NamedTuple):
    """Pooled features ``(N, C)`` and their labels ``(N,)``."""

    vectors: np.ndarray
    labels: np.ndarray


class ProbeResult(NamedTuple):
    """What a linear probe reached."""

    top1: float  # on the test split, per cent
    strength: float  # the chosen C: the inverse of the regularisation


@checked()
def linear_probe(train: Vectors, val: Vectors, test: Vectors) -> ProbeResult:
    """scikit-learn's logistic regression on standardised features.

    Args:
        train (Vectors): That it is fitted to, and by which they are
            standardised.
        val (Vectors): That chooses C among :data:`STRENGTHS`; of equals the
            smallest.
        test (Vectors): That it is judged by.

    Raises:
        ValueError: If there is a single class to learn.
    """
    fitted = [
        make_pipeline(
            StandardScaler(), LogisticRegression(C=c, max_iter=_ITERATIONS)
        ).fit(*train)
        for c in STRENGTHS
    ]
    best = int(np.argmax([model.score(*val) for model in fitted]))
    return ProbeResult(100 * fitted[best].score(*test), STRENGTHS[best])


class _Memories:
    """A memory of pooled vectors and one of pixels, of the same maps."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.heads: Dict[str, MemoryBankHead] = {}
        self.right = dict.fromkeys(('pooled', 'pixel'), 0)

    def fill(self, maps: Tensor, labels: Tensor, numbers: Tensor) -> None:
        """Memorise a batch of the train split in both memories."""
        for mode in self.right:
            if mode not in self.heads:
                head = MemoryBankHead(self.classes, maps.size(1), mode=mode)
                self.heads[mode] = head.eval()
            self.heads[mode].fill((maps,), labels, numbers)

    def condense(self) -> None:
        """Finish both memories when the train split has been read."""
        for head in self.heads.values():
            head.condense()

    def judge(self, maps: Tensor, labels: Tensor, numbers: Tensor) -> None:
        """Count the images of a test batch that each gets right."""
        for mode, head in self.heads.items():
            predicted = head((maps,)).argmax(1)
            self.right[mode] += int((predicted == labels).sum())


def _read(
    model: nn.Module,
    images: LabelledImages,
    layer: Optional[str],
    each: Callable[[Tensor, Tensor, Tensor], None],
) -> Vectors:
    """Features of a split; its maps, labels and numbers go to ``each``."""
    vectors: List[Tensor] = []
    for batch, labels, numbers in zip(
        features(model, images.inputs, layer),
        torch.from_numpy(images.labels).split(BATCH),
        torch.arange(len(images.labels)).split(BATCH),
    ):
        vectors.append(batch.vectors)
        each(batch.maps, labels, numbers)
    # In float64 the probe's digits do not depend on the number of threads.
    return Vectors(torch.cat(vectors).double().numpy(), images.labels)


def transfer(
    model: nn.Module, splits: Splits, layer: Optional[str] = None
) -> Tuple[Dict[str, float], float]:
    """Top-1 on another data set with the network as it is.

    The memory is :class:`~u1_plugin.mm.memory_bank_head.MemoryBankHead` with
    its defaults, the plain vote (kappa = 0) of the 10 nearest by cosine, of
    the layer's map; the probe is :func:`linear_probe` of what the classifier
    takes.

    Args:
        model (nn.Module): A classifier of MMPretrain, in eval mode; its own
            data preprocessor takes the images.
        splits (Splits): Of the other data set. The memory and the probe learn
            the train split, the validation split chooses the probe's C, and
            the test split judges.
        layer (str, optional): Module whose map is memorised; None takes the
            last map before pooling.

    Returns:
        tuple: Top-1 by name, per cent, and the probe's C.

    Raises:
        ValueError: If features are not finite, or there is one class.
    """
    classes = 1 + max(int(split.labels.max()) for split in splits)
    memories = _Memories(classes)
    train = _read(model, splits.train, layer, memories.fill)
    memories.condense()
    val = _read(model, splits.val, layer, lambda *part: None)
    test = _read(model, splits.test, layer, memories.judge)
    probe = linear_probe(train, val, test)
    count = len(test.labels)
    return {
        'memory of pooled vectors': 100 * memories.right['pooled'] / count,
        'memory of pixels': 100 * memories.right['pixel'] / count,
        'linear probe': probe.top1,
    }, probe.strength
