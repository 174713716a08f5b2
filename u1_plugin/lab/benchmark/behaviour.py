"""What top-1 does not say of a trained model: speed, trust, robustness."""

import json
import math
from pathlib import Path
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ...extras import needs
from ...geometry import (
    energy,
    off_axis_angle,
    pooled_vector,
    to_positive_orthant,
)
from ...nn.collector import MapCollector
from ...options import Count, Finite, checked, fits, shown
from ..outputs import check_outputs
from ..weights import classifier_of

with needs('lab'):
    from scipy.special import logsumexp
    from sklearn.metrics import roc_auc_score

#: What says nothing of a trained model's answers: its U(1) branch, and numbers
#: that stand in its config.
_NOT_ASKED = ('u1', 'data_preprocessor')
#: Of a validation.
_METRIC = 'accuracy/top1'
#: Images at a time.
BATCH = 256


@checked()
def epochs_to(curve: Sequence[dict], accuracy: Finite) -> float:
    """The first validated epoch that reaches an accuracy.

    Args:
        curve (Sequence[dict]): One entry a validation, with ``epoch`` and
            ``accuracy/top1``, per cent, in the order of training.
        accuracy (float): Wanted, per cent.

    Returns:
        float: If it is never reached, one validation after the last, so that
        the run counts as slow instead of not at all; NaN without a validation.

    Raises:
        ValueError: If an entry lacks a number.
    """
    for entry in curve:
        numbers = [entry.get('epoch'), entry.get(_METRIC)]
        if not fits(numbers, Sequence[Finite]):
            raise ValueError(
                f'curve holds {shown(entry)}; it needs numbers of epoch and '
                f'{_METRIC}'
            )
    epochs = [entry['epoch'] for entry in curve]
    reached = [e['epoch'] for e in curve if e[_METRIC] >= accuracy]
    if reached or not epochs:
        return float(reached[0]) if reached else math.nan
    return float(epochs[-1] + epochs[-1] - (epochs[-2:-1] or [0])[0])


@checked()
def calibration_error(
    logits: np.ndarray, labels: np.ndarray, bins: Count = 15
) -> float:
    """Expected calibration error with equally wide bins.

    Args:
        logits (np.ndarray): ``(N, K)``.
        labels (np.ndarray): ``(N,)``.
        bins (int): Of the confidence, in ``(0, 1]``.

    Returns:
        float: Mean distance of confidence and accuracy, per cent.

    Raises:
        ValueError: If these are not finite logits and labels among the K.
    """
    check_outputs(logits, labels)
    confidence = _confidence(logits)
    right = logits.argmax(1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(which, right - confidence, minlength=bins)
    return float(100 * np.abs(gap).sum() / len(labels))


def _confidence(logits: np.ndarray) -> np.ndarray:
    """The largest class probability of each image."""
    logits = logits.astype(np.float64)
    return np.exp(logits.max(1) - logsumexp(logits, axis=1))


class Signals(NamedTuple):
    """What a model makes of N images."""

    logits: np.ndarray  # (N, K)
    #: Off-axis angle of the pooled vector, ``(N,)``, radians, ``[0, pi/2]``.
    angle: np.ndarray
    energy: np.ndarray  # mean of E over the map, (N,), >= 0


def batches(
    model: nn.Module,
    images: Tensor,
    read: Callable[[Tensor], Tensor],
    layer: Optional[str],
) -> Iterator[Tuple[Tensor, Tensor]]:
    """What ``read`` makes of :data:`BATCH` images, and the map of a layer.

    Args:
        model (nn.Module): A classifier of MMPretrain, in eval mode.
        images (Tensor): ``(N, 3, H, W)``, as the pipeline packs them.
        read (Callable): Runs the model on a preprocessed batch.
        layer (str, optional): Module whose map is read, as in
            ``model.named_modules()``; None takes the last map before pooling.

    Raises:
        ValueError: If the layer has no map.
    """
    collector = MapCollector(model, [layer] if layer else 'auto')
    for part in images.split(BATCH):
        with torch.no_grad(), collector:
            outputs = read(model.data_preprocessor(dict(inputs=part))['inputs'])
            (maps,) = collector.maps().values()
        yield outputs, maps.float()


@checked()
def signals(
    model: nn.Module, images: Tensor, layer: Optional[str] = None
) -> Signals:
    """Logits, off-axis angle and energy; arguments as of :func:`batches`."""
    rows: List[Tuple[Tensor, Tensor, Tensor]] = []
    for logits, maps in batches(model, images, model, layer):
        intensity = to_positive_orthant(maps)
        angle = off_axis_angle(pooled_vector(intensity))
        rows.append((logits, angle, energy(intensity).mean((1, 2))))
    return Signals(*(torch.cat(v).cpu().numpy() for v in zip(*rows)))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Top-1, per cent; arguments as of :func:`calibration_error`."""
    check_outputs(logits, labels)
    return float(100 * np.mean(logits.argmax(1) == labels))


def detection_scores(values: Signals) -> Dict[str, np.ndarray]:
    """One score an image of each detector, larger for known.

    ``softmax``, the largest class probability, is the usual baseline; the
    other two are the geometry's own and do not look at the logits. The
    directions were fixed before any was measured.
    """
    confidence = _confidence(values.logits)
    return dict(softmax=confidence, angle=values.angle, energy=values.energy)


def detection(known: Signals, unknown: Signals) -> Dict[str, float]:
    """Area under the ROC curve of each detector, per cent.

    50 is chance; below it the detector points the wrong way.

    Args:
        known (Signals): Of test images of the trained classes.
        unknown (Signals): Of images of no trained class.

    Raises:
        ValueError: If one has no images or values that are not finite.
    """
    for name, values in (('known', known), ('unknown', unknown)):
        if not len(values.angle) or not all(
            np.isfinite(v).all() for v in values
        ):
            raise ValueError(
                f'{name} has {len(values.angle)} images; give at least one, '
                'and finite logits, angles and energies'
            )
    truth = np.repeat([1, 0], [len(known.angle), len(unknown.angle)])
    inside, outside = detection_scores(known), detection_scores(unknown)
    return {
        name: 100
        * float(roc_auc_score(truth, np.append(scores, outside[name])))
        for name, scores in inside.items()
    }


def load_run(folder: Path, epochs: int) -> nn.Module:
    """The trained model of a benchmark's run, from its folder.

    Raises:
        FileNotFoundError: If the checkpoint has been removed.
        ValueError: If it is not that of the run's config.
    """
    checkpoint = folder / f'epoch_{epochs}.pth'
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f'{checkpoint} is missing; what looks at images needs the '
            'checkpoints of the runs: train again, or leave these checks out'
        )
    config = Config.fromfile(folder / 'config.py')
    return classifier_of(config, str(checkpoint), _NOT_ASKED)


def recorded_outputs(folder: Path) -> Tuple[np.ndarray, np.ndarray]:
    """Logits ``(N, K)`` and labels ``(N,)`` of a run's test split.

    Raises:
        ValueError: If ``test_outputs.npz`` is not of a benchmark.
    """
    file = folder / 'test_outputs.npz'
    try:
        with np.load(file, allow_pickle=False) as npz:
            logits, labels = npz['logits'], npz['labels']
    except Exception as error:  # zipfile, zlib and numpy raise many kinds
        raise ValueError(
            f'{file} is no archive of logits and labels: {error}; run '
            'tools/benchmark.py again'
        ) from error
    try:
        check_outputs(logits, labels)
    except ValueError as error:
        raise ValueError(
            f'{file} holds {error}; run tools/benchmark.py again'
        ) from error
    return logits, labels


def recorded(folder: Path, curve: str, target: float) -> Dict[str, float]:
    """Calibration error, and epochs to an accuracy, from a run's own files.

    A run that was validated once has no epochs to tell apart.

    Args:
        folder (Path): Of the run.
        curve (str): ``val_curve`` of the table.
        target (float): Validation top-1 to reach, per cent.

    Raises:
        ValueError: If ``test_outputs.npz`` is not of a benchmark.
    """
    error = calibration_error(*recorded_outputs(folder))
    values, epochs = {'calibration error (ECE), %': error}, json.loads(curve)
    if len(epochs) > 1:
        values[f'epochs to {target:.2f} %'] = epochs_to(epochs, target)
    return values
