"""Hue maps of validation images, beside MMPretrain's ``VisualizationHook``."""

import os
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence

from mmengine.dist import is_main_process
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10
from torch import Tensor

from ...files import has_mark, replaced_file, short_name
from ...measure.hue import Palette, hue_figure, hue_map, photograph
from ...measure.probe_options import Layers, Orthant, Planes
from ...measure.sums import Accumulator
from ...options import Count, NonNegative, checked
from ..data import leaves
from ..layer_pictures import to_array
from .analysis_hook import AnalysisHook, step_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class U1VisualizationHook(AnalysisHook):
    """Hue maps of every ``interval``-th image that is validated or tested.

    A picture shows the image as the network gets it, and each layer's hue map
    beside it: the hue of a pixel is its feature angle, its saturation the
    off-axis angle, its brightness the norm of ``I`` relative to the largest of
    the map, which stands above it; the wheel is the legend. It goes through
    the runner's visualizer to all its back ends, by the number and name of
    the image file; a config stands in ``docs/analysis.md``. Of several ranks
    the first one draws, of the images that it evaluates.

    Args:
        enable (bool): Whether to draw at all, as in MMPretrain's
            ``VisualizationHook``.
        interval (int): Of the images' numbers in the data set; image 0 is the
            first that is drawn.
        show (bool): Show each picture in a window too.
        wait_time (float): Seconds that a window stays; 0 waits for a key.
        out_dir (str, optional): Write ``NAME_STEP.png`` here, and not to the
            back ends. A picture replaces that of an earlier run with the same
            ``work_dir``; beside any other file it gets a number.
        layers, feature_plane, orthant, token_grid: Of
            :class:`~u1_plugin.measure.Probe`.
        palette (str): ``'twilight'``, which readers who do not see all colours
            can tell apart, or ``'hsv'``, the hues of colour science.

    Raises:
        ValueError: If an option is out of its range; when a loop starts, if a
            layer is not in the model.
    """

    name = 'hue'

    @checked('U1VisualizationHook')
    def __init__(
        self,
        enable: bool = False,
        interval: Count = 5000,
        show: bool = False,
        wait_time: NonNegative = 0,
        out_dir: Optional[str] = None,
        layers: Layers = None,
        feature_plane: Planes = None,
        orthant: Optional[Orthant] = None,
        token_grid: Optional[str] = None,
        palette: Palette = 'twilight',
    ) -> None:
        super().__init__(layers, 'feature', feature_plane, orthant, token_grid)
        self.enable, self.interval, self.show = enable, interval, show
        self.wait_time, self.out_dir = wait_time, out_dir
        self.palette = palette

    def _begin(self, runner: Runner, loader, loop: str) -> None:
        if self.enable:
            super()._begin(runner, loader, loop)

    def _end(self, runner: Runner, loop: str) -> None:
        if self.enable:
            super()._end(runner, loop)

    def _start(self, runner: Runner, loader) -> None:
        self._runner = runner
        self._rgb = any(isinstance(d, CIFAR10) for d in leaves(loader.dataset))
        metainfo = getattr(loader.dataset, 'metainfo', {})
        classes = metainfo.get('classes')
        self._classes = [] if classes is None else list(classes)

    def _update(
        self, samples: Sequence[Any], index: Tensor, count: int
    ) -> None:
        places = (index % self.interval == 0).nonzero().flatten().tolist()
        if not places or not is_main_process():
            return
        maps = self._probe.maps()
        for activation in maps.values():
            self._probe.check_count(len(activation), count)
        views = _plain_view(self._batch)
        for place in places:
            image_maps = {
                layer: batch_maps[place] for layer, batch_maps in maps.items()
            }
            self._draw(
                samples[place], int(index[place]), views[place], image_maps
            )

    def _draw(
        self, sample: Any, number: int, image: Tensor, maps: Dict[str, Tensor]
    ) -> None:
        hues = {
            layer: hue_map(
                activation,
                partial(self._probe.feature_moment, layer),
                self._probe.orthant,
            )
            for layer, activation in maps.items()
        }
        path = sample.get('img_path')
        # The number tells images of one shortened name apart.
        name = str(number)
        if path:
            name += f'_{short_name(Path(path).name)}'
        figure = hue_figure(
            photograph(image.cpu(), self._rgb),
            hues,
            palette=self.palette,
            brightness='norm',
            opacity=1.0,
            title=f'{name}: {self._caption(sample)}',
        )
        if self.out_dir is None:
            self._picture(self._runner, self._loop, name, figure)
        else:
            self._save(name, figure)
        if self.show:
            self._runner.visualizer.show(to_array(figure), name, self.wait_time)

    def _save(self, name: str, figure: 'Figure') -> None:
        step = step_of(self._runner)[1]
        # As in the back ends' names: other hooks and loops write here, too.
        name = f'{name}_{self._tag}_{self._loop}_{step}'.replace('/', '_')
        folder = Path(self.out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        place = os.path.realpath(self._runner.work_dir)
        run = sha256(os.fsencode(place)).hexdigest()[:16]
        mark = f'u1_plugin {type(self).__name__} {run}'
        names = (
            f'{name}-{n}.png' if n > 1 else f'{name}.png' for n in count(1)
        )
        file = next(
            file
            for file in map(folder.joinpath, names)
            if not os.path.lexists(file) or has_mark(file, mark.encode())
        )
        with replaced_file(file, mark.encode()) as part:
            figure.savefig(part, format='png', metadata=dict(Software=mark))

    def _caption(self, sample: Any) -> str:
        """The image's class and the predicted one, where it has them."""
        names = {}
        for field, word in (('gt_label', 'class'), ('pred_label', 'predicted')):
            label = sample.get(field)
            if label is not None and label.numel() == 1:
                number = int(label)
                is_named = 0 <= number < len(self._classes)
                names[word] = self._classes[number] if is_named else number
        return ', '.join(f'{word} {name}' for word, name in names.items())

    def _totals(self) -> Dict[str, Accumulator]:
        return {}

    def _report(self, runner: Runner, loop: str, totals: dict) -> None:
        """Nothing is left to say after the last picture."""


def _plain_view(batch: Mapping[str, Any]) -> Sequence[Tensor]:
    """The images of a batch as they are measured.

    Under test-time augmentation, the batch has a list of images and samples
    for each view, and the first view without a mirrored image is measured.
    """
    inputs, samples = batch['inputs'], batch['data_samples']
    if not len(samples) or not isinstance(samples[0], (list, tuple)):
        return inputs
    for view, view_samples in zip(inputs, samples):
        if not any(
            sample.metainfo.get('flip', False) for sample in view_samples
        ):
            return view
    return inputs[0]  # the probe has refused it already
