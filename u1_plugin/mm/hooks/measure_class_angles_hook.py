"""Measures the angles that the classes have in a model trained without any."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Tuple

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...dist import all_reduce_sum, together
from ...files import check_tool_file, replaced_file
from ...geometry import (
    angle,
    feature_moment,
    fourier_basis,
    pooled_vector,
    safe_norm,
    to_positive_orthant,
    to_unit,
)
from ...measure.probe_options import Orthant, class_labels
from ...networks import unwrapped
from ...nn import U1Branch
from ...nn.taps import MapReader
from ...options import checked
from ..classifiers import num_classes_of
from ..data import forget_copies, training_images
from ..memory_loader import MemorySampler

_MARK = b'u1_plugin MeasureClassAnglesHook'


def class_angles_of(vectors: Tensor, labels: Tensor, classes: int) -> dict:
    """Circular mean of each of K classes in the centred Fourier plane.

    In a distributed run the ranks hold parts of the images, and all get the
    angles of the whole.

    Args:
        vectors (Tensor): Pooled vectors, ``(N, C)``. One of norm 0 or with
            an entry that is not finite has no angle and is left out.
        labels (Tensor): ``(N,)``, in ``[0, K)``.
        classes (int): K.

    Returns:
        dict: ``class_angles``, K radians in ``(-pi, pi]``, and ``resultant``,
        K lengths in [0, 1]: how much of a class shares its angle.

    Raises:
        ValueError: If a label is out of range or a class has no image.
    """
    together(_check_labels, vectors, labels, classes)
    norm = safe_norm(vectors.double(), 1)
    some = norm.isfinite() & (norm > 0)
    vectors, labels = vectors[some], labels[some]
    vectors = torch.nn.functional.normalize(vectors.double(), dim=1)
    images = all_reduce_sum(torch.tensor(float(len(vectors))))
    vectors = vectors - all_reduce_sum(vectors.sum(0)) / images.clamp_min(1)
    basis = fourier_basis(vectors.size(1), vectors.dtype, vectors.device)
    units = to_unit(feature_moment(vectors, basis), 1e-12)
    counts = all_reduce_sum(torch.bincount(labels, minlength=classes))
    if not counts.all():
        missing = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(
            f'train_dataloader: the classes {missing} have no image with an '
            'angle, so theirs cannot be measured; choose '
            'model.u1.class_angles.mode="random"'
        )
    sums = units.new_zeros(classes, 2).index_add_(0, labels, units)
    means = all_reduce_sum(sums) / counts[:, None]
    return dict(
        class_angles=angle(means).tolist(), resultant=means.norm(dim=1).tolist()
    )


def _check_labels(vectors: Tensor, labels: Tensor, classes: int) -> None:
    if len(labels) != len(vectors) or not len(labels):
        raise ValueError(
            f'train_dataloader: {len(vectors)} vectors but {len(labels)} '
            'labels; give one label an image'
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f'train_dataloader: labels from {low} to {high}, but '
            f'model.head.num_classes={classes}; set it to the number of '
            'classes'
        )


@contextmanager
def _last_maps(
    model: nn.Module, branch: Optional[U1Branch]
) -> Iterator[MapReader]:
    """Reads the branch's maps, or else the last map before pooling."""
    reader = branch.reading() if branch else MapReader(model)
    try:
        with reader:
            yield reader
    finally:
        reader.clear()
        if not branch:
            reader.detach()


class MeasureClassAnglesHook(Hook):
    """Writes ``class_angles.json`` of the training images after training.

    The last of the layers that the model's U(1) branch reads is measured; or
    without a branch, the last map before pooling. Each training image counts
    once, whatever repeats it, with the test pipeline (or else the validation
    pipeline), without augmentation. With an ``EMAHook`` the averaged weights
    are measured, which are those of the checkpoint. The file serves
    ``u1.class_angles=dict(mode='file')`` of another model; its plane should be
    centred as well (``u1.neck.feature_plane=dict(center='running')``).

    Args:
        orthant (str, optional): ``rho``, as in :class:`BottleneckAngleNeck`.
            None: the branch's, or ``'relu'``.

    Raises:
        ValueError: Before training, if nothing says how many classes there
            are or how an image is prepared; after it, if a class has no image.
        FileExistsError: Before training, if there is such a file that this
            hook has not written.
    """

    priority = 'LOW'

    @checked('MeasureClassAnglesHook')
    def __init__(self, orthant: Optional[Orthant] = None) -> None:
        self.orthant = orthant

    def before_train(self, runner: Runner) -> None:
        """Check what a finished training must not fail for."""
        self._classes(unwrapped(runner.model))
        _loader_config(runner)
        check_tool_file(_file(runner), _MARK, 'work_dir: class_angles.json')

    @torch.no_grad()
    def after_train(self, runner: Runner) -> None:
        """Measure, each rank its part of the images; one of them writes."""
        model = unwrapped(runner.model)
        classes = self._classes(model)
        loader = together(_loader, runner)
        with _averaged(runner):
            for buffer in model.buffers():  # a checkpoint has the first rank's
                broadcast(buffer)
            vectors, labels = together(self._vectors, model, loader)
        content = class_angles_of(vectors, labels, classes)
        if is_main_process():
            content = dict(written_by=_MARK.decode(), **content)
            with replaced_file(_file(runner), _MARK) as part:
                part.write_text(json.dumps(content, indent=1))

    def _vectors(
        self, model: nn.Module, loader: DataLoader
    ) -> Tuple[Tensor, Tensor]:
        """Pooled vectors of this rank's images, and their labels."""
        branch = getattr(model, 'u1', None)
        branch = branch if isinstance(branch, U1Branch) else None
        orthant = self.orthant or (branch.neck.orthant if branch else 'relu')
        model.eval()
        vectors, labels = [], []
        with _last_maps(model, branch) as reader:
            for batch in loader:
                data = model.data_preprocessor(batch, False)
                model(data['inputs'], mode='tensor')
                last = reader.maps()[-1].float()
                intensity = to_positive_orthant(last, orthant)
                vectors.append(pooled_vector(intensity).cpu())
                labels.append(class_labels(data['data_samples']))
        return torch.cat(vectors), torch.cat(labels)

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


def _file(runner: Runner) -> Path:
    return Path(runner.work_dir) / 'class_angles.json'


@contextmanager
def _averaged(runner: Runner) -> Iterator[None]:
    """The averaged weights in the model's place, as a checkpoint has them."""
    hooks = [
        hook
        for hook in runner.hooks
        if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model')
    ]
    for hook in hooks:
        hook._swap_ema_parameters()
    try:
        yield
    finally:
        for hook in hooks:
            hook._swap_ema_parameters()


def _loader(runner: Runner) -> DataLoader:
    """This rank's images."""
    config = _loader_config(runner)
    forget_copies()
    loader = runner.build_dataloader(config)
    if not len(loader):
        raise ValueError(
            'train_dataloader: fewer images than processes; take fewer '
            'processes'
        )
    return loader


def _loader_config(runner: Runner) -> dict:
    """A loader of the training images, each once, prepared for a test."""
    config = runner.cfg
    dataset = training_images(config, 'MeasureClassAnglesHook')
    loader = dict(config.get('test_dataloader') or config.val_dataloader)
    # These would leave out images, or be a second sampler.
    for name in ('num_batch_per_epoch', 'batch_sampler'):
        loader.pop(name, None)
    # MMEngine's would repeat images, for ranks of equal parts.
    sampler = dict(type=MemorySampler)
    return dict(loader, dataset=dataset, sampler=sampler, drop_last=False)
