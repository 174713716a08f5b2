"""What a memory's tools read: loaders of a config, maps of a layer."""

import copy
from typing import Mapping, Optional

import mmpretrain
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..geometry import to_positive_orthant
from ..measure.probe_options import class_labels
from ..mm.data import described, type_name
from ..mm.memory_inputs import plane_of
from ..mm.memory_loader import MemoryImages
from ..nn.taps import MapCollector


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


@torch.no_grad()
def read_maps(
    config: Config, checkpoint: str, layer: Optional[str] = None
) -> tuple:
    """What a memory config's backbone, or a layer, makes of all its images.

    Returns:
        tuple: ``I`` of the memory's, validation and test images in this order,
        ``(N, C, H, W)``, float32; labels ``(N,)``, an array; the feature
        plane. Where two loaders have one data set, its images come once.
    """
    model = mmpretrain.get_model(config, pretrained=checkpoint)
    view = LayerView(model, model.head, layer, None).eval()
    memory = MemoryImages(config, hook_options(config).get('dataloader'))
    loaders = {described(memory.config.dataset): memory.build()}
    for split in ('val', 'test'):
        loader = query_loader(config, split)
        dataset = config[f'{split}_dataloader']['dataset']
        loaders.setdefault(described(dataset), loader)
    maps, labels = [], []
    for loader in loaders.values():
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            last = view.extract_feat(data['inputs'])[-1]
            maps.append(to_positive_orthant(last, model.head.orthant))
            labels += class_labels(data['data_samples']).tolist()
    plane = model.head.feature_plane
    if layer is not None:
        options = config.model.head.get('feature_plane', {})
        plane = plane_of(options, maps[0].size(1), 'image')
    return torch.cat(maps), np.array(labels), plane.eval()
