"""The maps of some modules, for analysis, with nothing left behind."""

from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn

from .maps import MapSource
from .taps import MapReader


class MapCollector:
    """The maps of named modules during a ``with`` block, for analysis.

    Args:
        model (nn.Module): Any network.
        layers (List[str]): Names of its modules, such as
            ``'backbone.layer4'``, or ``'auto'``.
        token_grid (str, optional): See
            :func:`~u1_plugin.nn.layers.find_maps`.

    Raises:
        ValueError: If a layer cannot be read.

    Examples:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from u1_plugin.nn import MapCollector
        >>> model = resnet18().eval()
        >>> with MapCollector(model, ['layer4']) as collector:
        ...     logits = model(torch.randn(2, 3, 64, 64))
        ...     collector.maps()['layer4'].shape
        torch.Size([2, 512, 2, 2])
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        token_grid: Optional[str] = None,
    ) -> None:
        self._reader = MapReader(model, layers, token_grid)
        self.layers = [str(source.layer) for source in self.sources]

    @property
    def sources(self) -> List[MapSource]:
        """Where the maps are read."""
        return self._reader.sources

    def __enter__(self) -> 'MapCollector':
        self._reader.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._reader.__exit__()
        self._reader.detach()

    @torch.no_grad()
    def maps(self) -> Dict[str, Tensor]:
        """Maps ``(B, C, H, W)`` of the latest forward pass, by layer.

        Raises:
            ValueError: If a layer did not run or has no map.
        """
        return dict(zip(self.layers, self._reader.maps()))
