"""Measures the angles that the classes have in a model trained without any."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from ...files import replaced_file
from ...geometry import (
    ORTHANT_MAPS,
    angle,
    feature_moment,
    fourier_basis,
    pooled_vector,
    to_positive_orthant,
    to_unit,
)
from ...networks import unwrapped
from ...nn import U1Branch
from ...nn.base import check_choice
from ...nn.taps import MapReader
from ..classifiers import num_classes_of


def class_angles_of(vectors: Tensor, labels: Tensor, classes: int) -> dict:
    """Circular mean of each class in the centred Fourier plane.

    Args:
        vectors (Tensor): Pooled vectors, ``(N, C)``.
        labels (Tensor): ``(N,)``.
        classes (int): K.

    Returns:
        dict: ``class_angles``, K radians in ``(-pi, pi]``, and ``resultant``,
        K lengths in [0, 1]: how much of a class shares its angle.

    Raises:
        ValueError: If a class has no image.
    """
    vectors = torch.nn.functional.normalize(vectors.double(), dim=1)
    vectors = vectors - vectors.mean(0)
    basis = fourier_basis(vectors.size(1), vectors.dtype, vectors.device)
    units = to_unit(feature_moment(vectors, basis), 1e-12)
    counts = torch.bincount(labels, minlength=classes)
    if not counts.all():
        missing = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(
            f'train_dataloader: the classes {missing} have no image, so their '
            'angle cannot be measured; choose class_angles.mode="random"'
        )
    sums = units.new_zeros(classes, 2).index_add_(0, labels, units)
    means = sums / counts[:, None]
    return dict(
        class_angles=angle(means).tolist(), resultant=means.norm(dim=1).tolist()
    )


@contextmanager
def last_maps(model: nn.Module) -> Iterator[MapReader]:
    """Reads the maps that the model's U(1) branch reads.

    Args:
        model (nn.Module): A classifier. Without a branch, the last map before
            pooling is read.
    """
    branch = getattr(model, 'u1', None)
    own = None if isinstance(branch, U1Branch) else MapReader(model)
    reader = branch.reading() if own is None else own
    try:
        with reader:
            yield reader
    finally:
        reader.clear()
        if own is not None:
            own.detach()


def _orthant_of(model: nn.Module) -> str:
    branch = getattr(model, 'u1', None)
    return branch.neck.orthant if isinstance(branch, U1Branch) else 'relu'


class MeasureClassAnglesHook(Hook):
    """Writes ``class_angles.json`` of the training images after training.

    The last of the layers that the model's U(1) branch reads is measured; or
    without a branch, the last map before pooling. The images come with the
    test pipeline, without augmentation. The file serves
    ``u1.class_angles=dict(mode='file')`` of another model; its plane should be
    centred as well (``u1.neck.feature_plane=dict(center='running')``).

    Args:
        orthant (str, optional): ``rho``, as in :class:`BottleneckAngleNeck`.
            None: the branch's, or ``'relu'``.

    Raises:
        ValueError: If a class has no image, or nothing says how many classes
            there are.
    """

    priority = 'LOW'

    def __init__(self, orthant: Optional[str] = None) -> None:
        if orthant is not None:
            check_choice('orthant', orthant, ORTHANT_MAPS)
        self.orthant = orthant

    @torch.no_grad()
    def after_train(self, runner: Runner) -> None:
        """Measure; one process does it for all."""
        if not is_main_process():
            return
        model = unwrapped(runner.model)
        classes = self._classes(model)
        orthant = self.orthant or _orthant_of(model)
        model.eval()
        vectors, labels = [], []
        with last_maps(model) as reader:
            for batch in self._loader(runner):
                data = model.data_preprocessor(batch, False)
                model(data['inputs'], mode='tensor')
                last = reader.maps()[-1].float()
                intensity = to_positive_orthant(last, orthant)
                vectors.append(pooled_vector(intensity).cpu())
                labels += [int(s.gt_label) for s in data['data_samples']]
        content = class_angles_of(
            torch.cat(vectors), torch.tensor(labels), classes
        )
        file = Path(runner.work_dir) / 'class_angles.json'
        with replaced_file(file) as part:
            part.write_text(json.dumps(content, indent=1))

    @staticmethod
    def _classes(model: nn.Module) -> int:
        classes = num_classes_of(model)
        if classes is None:
            raise ValueError(
                'MeasureClassAnglesHook: model.head='
                f'{type(getattr(model, "head", None)).__name__} does not say '
                'how many classes there are; leave the hook out'
            )
        return classes

    @staticmethod
    def _loader(runner: Runner):
        config = runner.cfg
        loader = dict(config.test_dataloader)
        loader['dataset'] = dict(
            config.train_dataloader.dataset,
            pipeline=config.test_dataloader.dataset.pipeline,
        )
        # Not the distributed sampler: this process sees every image.
        loader['sampler'] = dict(type='mmengine.DefaultSampler', shuffle=False)
        return runner.build_dataloader(loader)
