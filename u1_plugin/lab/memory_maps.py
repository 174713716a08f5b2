"""What a memory's tools read: loaders of a config, maps of a layer."""

import copy
import inspect
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..geometry import to_positive_orthant
from ..measure.probe_options import class_labels, written_as
from ..memory.engines import engine_options
from ..mm.data import described, type_name
from ..mm.memory_bank_head import MemoryBankHead
from ..mm.memory_inputs import plane_of
from ..mm.memory_loader import MemoryImages
from ..nn.collector import MapCollector
from ..options import shown
from .weights import classifier_of

#: Options of a memory's head in place of which a study of many memories has its
#: own: how pixels are stored, searched and weighted.
STUDIED_OPTIONS = (
    *('mode', 'metric', 'engine', 'kernel', 'width', 'temperature'),
    *('protocol', 'prior_in', 'keep', 'coreset', 'coreset_sample', 'dtype'),
)
#: The same where nothing votes, and the engines are what is compared.
STORED_OPTIONS = ('mode', 'metric', 'keep', 'coreset', 'dtype')


class LayerView(nn.Module):
    """A classifier whose head gets the map of one of its modules.

    Args:
        model (nn.Module): MMPretrain's classifier.
        head (nn.Module): Of this layer.
        layer (str, optional): Name of the module; None is the backbone's
            output.
        token_grid (str, optional): See :class:`MapCollector`.
    """

    def __init__(
        self,
        model: nn.Module,
        head: nn.Module,
        layer: Optional[str],
        token_grid: Optional[str],
    ) -> None:
        super().__init__()
        self.classifier = model
        self.backbone = model.backbone
        self.neck = getattr(model, 'neck', None) if layer is None else None
        self.data_preprocessor = model.data_preprocessor
        self.head = head
        self.layer, self.token_grid = layer, token_grid

    @torch.no_grad()
    def extract_feat(self, inputs: Tensor, stage: str = 'neck') -> tuple:
        """The layer's map, as the only one."""
        if self.layer is None:
            return self.classifier.extract_feat(inputs, stage=stage)
        with MapCollector(
            self.classifier, [self.layer], self.token_grid
        ) as collector:
            self.classifier.extract_feat(inputs, stage=stage)
            return (collector.maps()[self.layer],)


def hook_options(config: Mapping) -> dict:
    """Options of the config's first ``MemoryBankHook``; none without one."""
    for hook in config.get('custom_hooks') or []:
        if isinstance(hook, Mapping) and type_name(hook) == 'MemoryBankHook':
            aside = ('type', 'priority')
            return {k: hook[k] for k in hook if k not in aside}
    return {}


def query_loader(config: Mapping, split: str) -> DataLoader:
    """All images of ``'val'`` or ``'test'``, in order, as its loader does.

    Raises:
        ValueError: If the config has no such loader.
    """
    loader = copy.deepcopy(config.get(f'{split}_dataloader'))
    if loader is None:
        raise ValueError(
            f'the config has no {split}_dataloader, whose images are asked '
            'for; give it one'
        )
    for name in ('batch_sampler', 'num_batch_per_epoch'):
        loader.pop(name, None)
    loader.sampler = dict(type=DefaultSampler, shuffle=False)
    loader.drop_last = False
    return Runner.build_dataloader(loader)


def memory_head(model: nn.Module) -> MemoryBankHead:
    """The head of a classifier with a memory.

    Raises:
        ValueError: If it is another.
    """
    head = getattr(model, 'head', None)
    if not isinstance(head, MemoryBankHead):
        raise ValueError(
            f'model.head is {type(head).__name__}, and must be MemoryBankHead; '
            'see configs/memory_bank'
        )
    return head


def check_count(option: str, k: int, vectors: int) -> None:
    """Refuse more neighbours than a memory has vectors.

    Args:
        option (str): With its value, as the user wrote it.
        k (int): >= 1.
        vectors (int): Of the memory.

    Raises:
        ValueError: If there are not as many; the message names both.
    """
    if k > vectors:
        raise ValueError(
            f'{option} is more than the {vectors} vectors of the memory; take '
            f'at most {vectors}, or memorise more'
        )


def check_unread(
    config: Mapping, tool: str, fields: Sequence[str] = STUDIED_OPTIONS
) -> None:
    """Refuse a memory's options in place of which a tool has its own.

    Args:
        config (Mapping): Of a memory.
        tool (str): Its name, for the message.
        fields (Sequence[str]): Options of the head that it does not read.

    Raises:
        ValueError: If one of them, or the hook's ``shots``, is not the one that
            the head or the hook takes by itself; the message names them all.
    """
    head = (config.get('model') or {}).get('head') or {}
    plain = inspect.signature(MemoryBankHead).parameters
    unread = {
        f'model.head.{name}': head[name]
        for name in fields
        if name in head and not _is_plain(name, head[name], plain[name].default)
    }
    shots = hook_options(config).get('shots')
    if shots is not None:
        unread['MemoryBankHook.shots'] = shots
    if unread:
        words = ', '.join(f'{key}={shown(v)}' for key, v in unread.items())
        raise ValueError(
            f'{words}: {tool} does not read this, and would answer for another '
            'memory; leave it out of the config'
        )


def _is_plain(name: str, value: Any, default: Any) -> bool:
    """Whether an option has the value that the head takes by itself."""
    if name == 'engine':
        return engine_options(value, 'model.head.engine') == dict(type=default)
    if name == 'kernel' and value == 'uniform':
        return True
    return bool(value == default)


class Maps(NamedTuple):
    """What a layer makes of the images of a memory's config.

    Attributes:
        maps (Tensor): ``I``, ``(N, C, H, W)``, float32.
        labels (np.ndarray): ``(N,)``.
        plane (nn.Module): The feature plane.
        parts (Dict[str, range]): Which images are the ``'memory'``'s, which
            ``'val'`` and which ``'test'``. Two of one data set are the same.
    """

    maps: Tensor
    labels: np.ndarray
    plane: nn.Module
    parts: Dict[str, range]


@torch.no_grad()
def read_maps(
    config: Config, checkpoint: str, layer: Optional[str] = None
) -> Maps:
    """What a memory config's backbone, or a layer, makes of all its images.

    Those of the memory, of validation and of the test come in this order.
    Where two loaders have one data set, its images come once.

    Raises:
        ValueError: If the config has no memory, lacks a loader, or the
            checkpoint or the layer is not that of its network; or if an image
            file comes twice.
    """
    model = classifier_of(config, checkpoint)
    view = LayerView(model, head := memory_head(model), layer, None).eval()
    memory = MemoryImages(config, hook_options(config).get('dataloader'))
    keys = dict(memory=described(memory.config.dataset))
    loaders = {keys['memory']: memory.build()}
    for split in ('val', 'test'):
        loader = query_loader(config, split)
        keys[split] = described(config[f'{split}_dataloader']['dataset'])
        loaders.setdefault(keys[split], loader)
    maps: List[Tensor] = []
    labels: List[int] = []
    ranges: Dict[Any, range] = {}
    files: Dict[Path, str] = {}
    # Errors name the layer as the user wrote it.
    with written_as({'u1.neck.layers': '--layer'}):
        for key, loader in loaders.items():
            first = len(labels)
            split = next(name for name in keys if keys[name] == key)
            for batch in loader:
                data = model.data_preprocessor(batch, False)
                last = view.extract_feat(data['inputs'])[-1]
                maps.append(to_positive_orthant(last, head.orthant))
                labels += class_labels(data['data_samples']).tolist()
                _check_new(data['data_samples'], split, files)
            ranges[key] = range(first, len(labels))
    plane = head.feature_plane
    if layer is not None:
        options = config.model.head.get('feature_plane', {})
        plane = plane_of(options, maps[0].size(1), 'image')
    parts = {name: ranges[key] for name, key in keys.items()}
    return Maps(torch.cat(maps), np.array(labels), plane.eval(), parts)


def _check_new(
    samples: Sequence[Any], split: str, files: Dict[Path, str]
) -> None:
    """Note the files of a split's images; ValueError for one noted before."""
    for sample in samples:
        path = sample.get('img_path')
        if path is None:
            continue
        file = Path(path).resolve()
        if file in files:
            raise ValueError(
                f'{path!r} is an image of {files[file]} and again of {split}, '
                'so that it would count twice, or be looked up in a memory '
                'that holds it; give each split images of its own, each once'
            )
        files[file] = split
