"""Reads one view of an image where a network sees several."""

from itertools import takewhile
from typing import Any, Dict, Optional

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..networks import unwrapped
from ..nn.collector import MapCollector


def is_augmented(model: nn.Module) -> bool:
    """Whether a model predicts each image from several views of it."""
    network = unwrapped(model)
    wrappers = takewhile(lambda part: part is not network, model.modules())
    # As MMEngine's BaseTTAModel.
    return any(hasattr(part, 'merge_preds') for part in wrappers)


class PlainView:
    """The maps of each image's first view that is not mirrored.

    Under test-time augmentation a network runs once a view. Angles in the
    image plane would be those of a mirror image in the others.

    Args:
        network (nn.Module): That is called with ``data_samples``.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._handle: Optional[RemovableHandle] = None
        self._kept: Optional[Dict[str, Tensor]] = None
        self._is_read = True  # what is kept, which is nothing yet

    def attach(self, collector: MapCollector) -> None:
        """Listen to the network's passes."""

        def after(
            module: nn.Module, args: Any, kwargs: Dict[str, Any], output: Any
        ) -> None:
            if self._is_read:  # the first view of the next batch
                self._kept, self._is_read = None, False
            samples = kwargs.get('data_samples') or ()
            mirrored = [s.metainfo.get('flip', False) for s in samples]
            if self._kept is None and not any(mirrored):
                self._kept = collector.maps()

        self._handle = self._network.register_forward_hook(
            after, with_kwargs=True
        )

    def detach(self) -> None:
        """Listen no longer."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self._kept = None, None

    def end_batch(self) -> None:
        """The next pass is of another batch, whether this was read or not."""
        self._is_read = True

    def maps(self) -> Dict[str, Tensor]:
        """Maps ``(B, C, H, W)`` by layer.

        Raises:
            ValueError: If every view of a batch was mirrored.
        """
        self.end_batch()
        if self._kept is None:
            raise ValueError(
                'tta_pipeline mirrors an image of the batch in every view, '
                'and angles are read in a view that is not mirrored; give '
                'TestTimeAug a RandomFlip with prob=0'
            )
        return self._kept
