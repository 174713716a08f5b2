"""What MMPretrain's data configs say: which images, prepared by what.

A data set's config may be a wrapper (``RepeatDataset``, ``ConcatDataset``, …,
nested at will), its ``type`` a name or, in pure-Python configs, a class, and
its pipeline is the one that its loader builds, whatever variables there are.
"""

import copy
import inspect
import re
from contextlib import suppress
from typing import Any, Iterator, List, Mapping, Optional, Sequence

from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, ConcatDataset
from mmpretrain.registry import DATASETS, TRANSFORMS
from torch.utils.data import DataLoader

from ..networks import description

#: Loaders whose pipeline prepares images for a network under evaluation.
_EVALUATED = ('test_dataloader', 'val_dataloader')
#: Wrappers that show the same image several times, to weight the sampling.
_REPEATING = ('RepeatDataset', 'ClassBalancedDataset')
#: What decides the draw of a `SubsetDataset`, beside its images.
_DRAW = ('type', 'shots', 'imbalance', 'label_noise', 'seed')


def type_name(config: Any) -> str:
    """The bare name of a component, from a config or the value of a ``type``.

    ``'Resize'`` for ``'mmpretrain.Resize'`` as for the class; empty where a
    config has no ``type``.
    """
    kind = config.get('type', '') if isinstance(config, Mapping) else config
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return re.split(r'[.:]', name)[-1]


def dataset_type(config: Mapping) -> Any:
    """A data set's ``type``, of a ``SubsetDataset`` that of what is drawn."""
    kind = config.get('type')
    return (
        config.get('of') if type_name(kind or '') == 'SubsetDataset' else kind
    )


def forget_copies() -> None:
    """Have the next data sets copied afresh; called before they are built.

    MMEngine 0.10 copies data sets (``BaseDataset.get_subset``, and so
    ``KFoldDataset``) with one dict for all copies of a process, which is the
    default of an argument. It knows a data set that is gone by its address,
    and in the next copy puts it in the place of whatever lies there by then,
    such as a step of the pipeline.
    """
    copied = inspect.signature(BaseDataset._copy_without_annotation)
    memo = copied.parameters.get('memo')
    if memo is not None and isinstance(memo.default, dict):
        memo.default.clear()


def _inside(dataset: Any) -> List[Any]:
    """What a wrapper wraps, config or built; nothing for a data set."""
    if isinstance(dataset, (list, tuple)):
        return list(dataset)
    if type(dataset).__name__ == '_SlicedDataset':  # num_batch_per_epoch
        return [dataset._dataset]
    get = dataset.get if isinstance(dataset, Mapping) else vars(dataset).get
    datasets = get('datasets')
    if isinstance(datasets, (list, tuple)):
        return list(datasets)
    wrapped = get('dataset')  # a text there names a data set, and wraps none
    return [] if wrapped is None or isinstance(wrapped, str) else [wrapped]


def leaves(dataset: Any) -> Iterator[Any]:
    """The innermost data sets, in the order of their images.

    Those of a config or of a built data set, of a wrapper, or of a list.
    """
    inside = _inside(dataset)
    if not inside:
        yield dataset
    for part in inside:
        yield from leaves(part)


def leaf_pipeline(leaf: Any) -> Optional[List[Any]]:
    """A copy of the pipeline of an innermost data set; None if it has none."""
    if isinstance(leaf, Mapping):
        pipeline = leaf.get('pipeline')
    else:
        pipeline = getattr(leaf, 'pipeline', None)
        pipeline = getattr(pipeline, 'transforms', pipeline)
    return None if pipeline is None else list(copy.deepcopy(pipeline))


def pipeline_of(loader: Any, field: str) -> Optional[List[Any]]:
    """A copy of the pipeline of a data loader, built or not, if it has one.

    Args:
        loader: Its config, or a built one.
        field (str): Its place in the config, for the message.

    Raises:
        ValueError: If it wraps data sets of different pipelines.
    """
    built = isinstance(loader, DataLoader)
    dataset = loader.dataset if built else loader['dataset']
    pipelines = [leaf_pipeline(leaf) for leaf in leaves(dataset)]
    if any(described(other) != described(pipelines[0]) for other in pipelines):
        raise ValueError(
            f'{field}.dataset: its {len(pipelines)} data sets have different '
            'pipelines, so that there is no one way to prepare an image; give '
            'them the same'
        )
    return pipelines[0] if pipelines else None


def test_pipeline(config: Mapping) -> Optional[List[Any]]:
    """How the config's loaders prepare an image that is not trained on.

    A copy of the test loader's pipeline, else of the validation loader's, with
    :func:`one_view` of test-time augmentation; None if the data set has none.

    Raises:
        ValueError: If the config has neither loader, or one of several
            pipelines.
    """
    for field in _EVALUATED:
        loader = config.get(field)
        if loader is not None:
            pipeline = pipeline_of(loader, field)
            return None if pipeline is None else one_view(pipeline)
    raise ValueError(
        'the config has neither test_dataloader nor val_dataloader, whose '
        'pipeline prepares the images; give it a test_dataloader'
    )


test_pipeline.__test__ = False  # type: ignore[attr-defined]  # for pytest


def one_view(pipeline: Sequence[Any]) -> List[Any]:
    """The pipeline with a single view in place of test-time augmentation.

    Of each group of a ``TestTimeAug``, the view that leaves the image alone
    (``RandomFlip`` with ``prob=0``), else the first.
    """
    steps: List[Any] = []
    for step in pipeline:
        if isinstance(step, Mapping) and type_name(step) == 'TestTimeAug':
            for group in step['transforms']:
                steps += [] if any(map(_never_flips, group)) else group[:1]
        else:
            steps.append(step)
    return steps


def _never_flips(step: Any) -> bool:
    flips = isinstance(step, Mapping) and type_name(step) == 'RandomFlip'
    return flips and step.get('prob') == 0


def _loads(step: Any) -> bool:
    kind = step if isinstance(step, Mapping) else type(step)
    return type_name(kind).startswith('Load')


def _loading(pipeline: Sequence[Any]) -> int:
    """How many steps come until files have been read; 0 if none are."""
    loads = list(map(_loads, pipeline))
    if True not in loads:
        return 0
    first = loads.index(True)
    return loads.index(False, first) if False in loads[first:] else len(loads)


def reading_files(pipeline: Sequence[Any]) -> List[Any]:
    """A copy that begins by reading an image file, as MMPretrain's inferencer.

    The pipeline of a data set that holds arrays (CIFAR) reads none.
    """
    steps = list(copy.deepcopy(pipeline))
    if _loading(steps):
        return steps
    return [ConfigDict(type='LoadImageFromFile'), *steps]


def with_pipeline(dataset: Any, pipeline: Optional[Sequence[Any]]) -> Any:
    """A copy of a data set's config whose innermost pipelines are another.

    Whether files are read stays the data set's own affair: a set of arrays
    gets the pipeline without its loading steps, and one of files keeps its
    own loading steps where the pipeline has none. A data set without a
    pipeline keeps none, and None fits such alone.

    Raises:
        ValueError: If a data set is built already, or has a pipeline and
            ``pipeline`` is None.
    """
    copied = copy.deepcopy(dataset)
    for leaf in leaves(copied):
        if not isinstance(leaf, Mapping):
            raise ValueError(
                f'dataset={type(leaf).__name__} is built already, so that its '
                'pipeline cannot be replaced; give its config'
            )
        leaf_pipeline = leaf.get('pipeline')
        if leaf_pipeline is None:
            continue
        if pipeline is None:
            raise ValueError(
                f'dataset.type={type_name(leaf)!r} has a pipeline, and the '
                'test data set has none to prepare its images with; give '
                'test_dataloader.dataset a pipeline'
            )
        steps, count = list(copy.deepcopy(pipeline)), _loading(pipeline)
        if not _loading(leaf_pipeline):
            others = [s for s in steps[:count] if not _loads(s)]
            steps = [*others, *steps[count:]]
        elif not count:
            steps = [
                *copy.deepcopy(leaf_pipeline[: _loading(leaf_pipeline)]),
                *steps,
            ]
        leaf['pipeline'] = steps  # type: ignore[index]
    return copied


def once(dataset: Any) -> Any:
    """A copy of a data set's config that shows every image once.

    ``RepeatDataset`` and ``ClassBalancedDataset`` repeat images to weight the
    sampling of training; what they wrap takes their place. The images of
    ``ConcatDataset`` are those of all its parts, those of ``KFoldDataset``
    the ones of its fold. A list of configs becomes a ``ConcatDataset``, and
    so does what a ``SubsetDataset`` would repeat after its draw.
    """
    copied = copy.deepcopy(dataset)
    if isinstance(copied, (list, tuple)):
        parts = [once(part) for part in copied]
        return ConfigDict(type=ConcatDataset, datasets=parts)
    if not isinstance(copied, Mapping):
        return copied
    if type_name(dataset_type(copied) or '') in _REPEATING:
        wrapped = once(copied['dataset'])
        if type_name(copied) in _REPEATING:
            return wrapped
        # The draw is one of the images inside, whatever the wrapper is.
        draw = {k: v for k, v in copied.items() if k in _DRAW}
        return ConfigDict(**draw, of=ConcatDataset, datasets=[wrapped])
    if isinstance(copied.get('datasets'), (list, tuple)):
        copied['datasets'] = [once(part) for part in copied['datasets']]
    elif isinstance(copied.get('dataset'), Mapping):
        copied['dataset'] = once(copied['dataset'])
    return copied


def training_images(config: Mapping, field: str) -> Any:
    """A data set's config of the training images, prepared as test images are.

    Each comes once. ``field`` names who asks, for the message.

    Raises:
        ValueError: If the config has no training data set.
    """
    loader = config.get('train_dataloader')
    if loader is None:
        raise ValueError(
            f'{field}: the config has no train_dataloader, whose images are '
            'asked for; give it one'
        )
    return with_pipeline(once(loader['dataset']), test_pipeline(config))


def described(value: Any) -> str:
    """A text that is the same for configs that mean the same.

    A ``type`` may be a name or a class, a sequence a list or a tuple, and a
    mapping in any order; see :func:`~u1_plugin.networks.description`.
    """
    return description(value, _component)


def _component(kind: Any) -> Any:
    """What a config's ``type`` names; an unknown name without its module."""
    if not isinstance(kind, str):
        return kind
    with suppress(Exception):  # whatever importing by name raises
        return TRANSFORMS.get(kind) or DATASETS.get(kind) or type_name(kind)
    return type_name(kind)
