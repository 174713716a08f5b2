"""What a built data set holds: labels and content, through wrappers."""

import hashlib
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np
from mmengine import fileio
from torch import Tensor

from ..networks import description
from .data import leaves

#: What says where an image stands in a data set, and nothing of the image.
_PLACES = ('sample_idx', 'dataset_idx')


def _source(dataset: Any) -> Optional[Callable[[int], int]]:
    """Which image of what it wraps a built wrapper shows at an index.

    None if the data set is no wrapper of a single one.
    """
    if getattr(dataset, 'dataset', None) is None:
        return None
    indices = getattr(dataset, 'indices', None)  # of torch's Subset
    if indices is not None:
        return lambda index: int(indices[index])
    return getattr(dataset, '_get_ori_dataset_idx', None)


def _read_labels(dataset: Any) -> Any:
    if hasattr(dataset, 'get_gt_labels'):
        return dataset.get_gt_labels()
    if isinstance(getattr(dataset, 'datasets', None), (list, tuple)):
        return np.concatenate([gt_labels(part) for part in dataset.datasets])
    source = _source(dataset)
    if source is not None:
        inner = gt_labels(dataset.dataset)
        return inner[[source(index) for index in range(len(dataset))]]
    items = (dataset[index] for index in range(len(dataset)))
    return [int(item['data_samples'].gt_label) for item in items]


def gt_labels(dataset: Any, field: str = 'dataset') -> np.ndarray:
    """The label of each image of a built data set, through wrappers.

    Args:
        dataset: Of MMPretrain, or any whose items hold ``data_samples``; the
            items are read only if nothing else tells the labels.
        field (str): Its place in the config, for the message.

    Returns:
        np.ndarray: ``(N,)``, int64, in the data set's order.

    Raises:
        ValueError: If an image has no label, or several.
    """
    problem = ValueError(
        f'{field}.type={type(dataset).__name__!r} has images without one label '
        'each; give a single-label data set'
    )
    try:
        labels = np.asarray(_read_labels(dataset))
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as e:
        raise problem from e  # no label, or several of varying number
    is_integer = labels.dtype.kind in 'iu' or not len(dataset)
    if labels.shape != (len(dataset),) or not is_integer:
        raise problem
    return labels.astype(np.int64)


def image_name(dataset: Any, number: int) -> str:
    """For messages: the file of an image, or its number."""
    path = None
    if hasattr(dataset, 'get_data_info'):
        path = dataset.get_data_info(number).get('img_path')
    return f'the image {path or number}'


def _info(dataset: Any, number: int) -> Dict[str, Any]:
    """What the data set knows of an image before its pipeline runs."""
    if hasattr(dataset, 'get_data_info'):
        return dict(dataset.get_data_info(number))
    source = _source(dataset)
    if source is not None:
        return _info(dataset.dataset, source(number))
    item = dataset[number]
    return dict(inputs=item['inputs'], gt_label=item['data_samples'].gt_label)


def _update(digest: Any, value: Any) -> None:
    """Feed a value to a hash, with what tells it from others."""
    if isinstance(value, Tensor):
        value = description(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == 'O':
        value = value.tolist()
    if isinstance(value, Mapping):
        items = sorted(value.items(), key=lambda item: str(item[0]))
        value = [part for item in items for part in item]
    if isinstance(value, (list, tuple)):
        digest.update(f'[{len(value)}'.encode())
        for part in value:
            _update(digest, part)
    elif hasattr(value, 'tobytes'):  # an array, or Pillow's image
        shape = getattr(value, 'shape', None) or getattr(value, 'size', '')
        kind = getattr(value, 'dtype', None) or getattr(value, 'mode', '')
        digest.update(f'{kind}{shape};'.encode())
        digest.update(value.tobytes())
    else:
        raw = value if isinstance(value, bytes) else description(value).encode()
        digest.update(f'{type(value).__name__}{len(raw)};'.encode())
        digest.update(raw)


def _with_content(info: Dict[str, Any], backend: Optional[dict]) -> dict:
    """Files in place of their paths; nothing of where the image stands."""
    return {
        key: fileio.get(value, backend)
        if isinstance(value, str) and key.endswith('_path') and value
        else value
        for key, value in info.items()
        if key not in _PLACES
    }


def _backend(dataset: Any) -> Optional[dict]:
    """Where the data set's loading step reads files from (MMEngine's).

    Raises:
        ValueError: If data sets in one wrapper have several such places.
    """
    backends = []
    for leaf in leaves(dataset):
        steps = getattr(getattr(leaf, 'pipeline', None), 'transforms', ())
        reading = [step for step in steps if hasattr(step, 'backend_args')]
        backends += [step.backend_args for step in reading[:1]]
    # None is MMEngine's word for local files.
    places = [backend or dict(backend='local') for backend in backends]
    if any(other != places[0] for other in places):
        raise ValueError(
            f'dataset.type={type(dataset).__name__!r} holds data sets whose '
            f'pipelines read files by different backend_args={backends}, and '
            'files are compared through one; give them the same'
        )
    return backends[0] if backends else None


def content_digests(dataset: Any, numbers: Sequence[int]) -> Dict[str, str]:
    """Name the content of some images of a built data set, in their order.

    Each file is read once and hashed as it is, without being decoded; of a
    data set in memory its arrays are hashed. So a picture that is replaced
    under the same name is another, and a folder may move. Data sets that know
    nothing of an image but the image itself are read through their pipeline.

    Returns:
        Dict[str, str]: Digests of ``'images'`` and ``'labels'``.
    """
    backend = _backend(dataset)
    images, labels = (hashlib.blake2b(digest_size=16) for _ in range(2))
    for number in numbers:
        info = _info(dataset, int(number))
        annotations = {
            key: info.pop(key) for key in list(info) if key[:3] == 'gt_'
        }
        _update(images, _with_content(info, backend))
        _update(labels, annotations)
    return dict(images=images.hexdigest(), labels=labels.hexdigest())
