"""Colour pictures of a map: hue, saturation and value of every pixel."""

from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Literal,
    NamedTuple,
    Optional,
    cast,
    get_args,
)

import numpy as np
import torch
from torch import Tensor

from ..extras import needs
from ..geometry import angle, energy, off_axis_angle, to_positive_orthant
from ..options import checked
from .labels import mathtext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

#: ``'hsv'``: the colours of colour science, as for three channels.
#: ``'twilight'``: matplotlib's, for readers who do not see all of those. They
#: tell its angles apart by lightness too, so it is lifted off the black that
#: stands for no energy.
Palette = Literal['hsv', 'twilight']
PALETTES = get_args(Palette)

#: Least value of a colour of ``'twilight'`` at full brightness.
_LIFT = 0.15
_COLUMNS = 4
#: RGB of pixels that are not finite: a grey, and pictures say how many.
NOT_FINITE = (0.5, 0.5, 0.5)


class HueMap(NamedTuple):
    """The colour coordinates of one map.

    Attributes:
        theta (np.ndarray): ``theta_f``, ``(H, W)``, radians in ``[-pi, pi]``.
        phi (np.ndarray): Off-axis angle, ``(H, W)``, radians in
            ``[0, pi/2]`` in the positive orthant.
        energy (np.ndarray): ``E``, ``(H, W)``, >= 0.
    """

    theta: np.ndarray
    phi: np.ndarray
    energy: np.ndarray

    def colors(
        self, palette: Palette = 'hsv', brightness: str = 'energy'
    ) -> np.ndarray:
        """RGB in [0, 1], ``(H, W, 3)``.

        Args:
            palette (str): One of :data:`PALETTES`.
            brightness (str): ``'energy'``, or its root, the ``'norm'``, which
                leaves fewer pixels in the dark; relative to the largest.

        Pixels that are not finite are :data:`NOT_FINITE`.
        """
        value = np.where(self.is_finite, self.energy, 0)
        if brightness != 'energy':
            value = np.sqrt(value)
        colors = to_rgb(
            np.where(self.is_finite, self.theta, 0),
            np.where(self.is_finite, self.phi / (np.pi / 2), 0),
            value / (value.max() or 1),
            palette,
        )
        colors[~self.is_finite] = NOT_FINITE
        return colors

    @property
    def is_finite(self) -> np.ndarray:
        """Whether all three values of a pixel are finite, ``(H, W)``."""
        finite: np.ndarray = np.isfinite(np.stack(self)).all(0)
        return finite


@checked()
def to_rgb(
    theta: np.ndarray,
    saturation: np.ndarray,
    value: np.ndarray,
    palette: Palette = 'hsv',
) -> np.ndarray:
    """Colours of angles.

    Args:
        theta (np.ndarray): Radians; 0 is red, 120 degrees green, 240 blue.
        saturation (np.ndarray): 0 (grey) to 1, of theta's shape.
        value (np.ndarray): 0 (black) to 1, of theta's shape.
        palette (str): One of :data:`PALETTES`.

    Returns:
        np.ndarray: RGB in [0, 1], theta's shape and 3.

    Raises:
        ValueError: If ``palette`` is unknown.
    """
    with needs('lab'):
        import matplotlib
        from matplotlib.colors import hsv_to_rgb
    hue = np.mod(theta / (2 * np.pi), 1)
    saturation, value = np.clip(saturation, 0, 1), np.clip(value, 0, 1)
    rgb: np.ndarray
    if palette == 'hsv':
        rgb = hsv_to_rgb(np.stack([hue, saturation, value], -1))
        return rgb
    pure = matplotlib.colormaps['twilight_shifted'](hue)[..., :3]
    pure = _LIFT + (1 - _LIFT) * pure
    rgb = (1 + saturation[..., None] * (pure - 1)) * value[..., None]
    return rgb


def hue_map(
    activation: Tensor,
    feature_plane: Callable[[Tensor], Tensor],
    orthant: str = 'relu',
) -> HueMap:
    """Measure every pixel of one image's map.

    Args:
        activation (Tensor): ``A``, ``(C, H, W)``.
        feature_plane (Callable): ``(N, C) -> (N, 2)``, such as
            :class:`~u1_plugin.nn.FeaturePlane`.
        orthant (str): ``rho``.

    Returns:
        HueMap: Hue, off-axis angle and energy, ``(H, W)`` each.
    """
    # In float64, for squares of float32 overflow beyond 1.8e19.
    intensity = to_positive_orthant(activation.double(), orthant)
    height, width = intensity.shape[1:]
    pixels = intensity.flatten(1).T
    theta = angle(feature_plane(pixels)).view(height, width)
    return HueMap(
        theta.cpu().numpy(),
        off_axis_angle(intensity, 0).cpu().numpy(),
        energy(intensity, 0).cpu().numpy(),
    )


def photograph(image: Tensor, rgb: bool = False) -> np.ndarray:
    """An image as the pipeline gives it, for readers.

    Args:
        image (Tensor): ``(C, H, W)``, before normalisation.
        rgb (bool): Whether three channels are RGB, and not BGR.

    Returns:
        np.ndarray: ``(H, W, 3)`` in [0, 1]. Of three channels, the colours;
        of four, those of the first three (BGR and alpha); of any other
        number, the mean in grey.
    """
    white: float = 255
    if not image.is_floating_point():
        white = torch.iinfo(image.dtype).max
    elif image.max() <= 1:
        white = 1
    colors = image.float() / white
    if len(colors) in (3, 4):
        colors = colors[:3] if rgb else colors[:3].flip(0)
    else:
        colors = colors.mean(0).expand(3, -1, -1)
    return colors.clamp(0, 1).permute(1, 2, 0).numpy()


def _overlay(
    colors: np.ndarray, photo: np.ndarray, opacity: float
) -> np.ndarray:
    """Each pixel of a map a block of one colour over the photograph's grey."""
    height, width = photo.shape[:2]
    rows = np.arange(height) * len(colors) // height
    columns = np.arange(width) * colors.shape[1] // width
    grey = photo.mean(-1, keepdims=True)
    blocks = colors[rows[:, None], columns]
    mixed: np.ndarray = opacity * blocks + (1 - opacity) * grey
    return mixed


def draw_wheel(
    ax: 'PolarAxes', palette: Palette, brightness: str = 'energy'
) -> None:
    """The legend: hue by angle, saturation by radius; on polar axes."""
    turn = np.linspace(0, 2 * np.pi, 181)
    radius = np.linspace(0, 1, 31)
    theta, saturation = np.meshgrid((turn[1:] + turn[:-1]) / 2, radius[1:])
    colors = to_rgb(theta, saturation, np.ones_like(theta), palette)
    ax.pcolormesh(turn, radius, colors, shading='flat')
    ax.set_xticks(
        np.arange(6) * np.pi / 3, [f'{60 * k}°' for k in range(6)], fontsize=9
    )
    ax.set_yticks([0.5, 1], ['45°', '90°'], fontsize=8)
    ax.set_rlabel_position(100)
    ax.grid(False)
    ax.set_title(
        'angle: θ, hue\nradius: off-axis angle, saturation\n'
        f'brightness: {brightness} / its largest',
        fontsize=9.5,
    )


def hue_figure(
    photo: np.ndarray,
    maps: Dict[str, HueMap],
    cam: Optional[np.ndarray] = None,
    cam_title: str = '',
    palette: Palette = 'hsv',
    title: str = '',
    brightness: str = 'energy',
    opacity: float = 0.7,
) -> 'Figure':
    """The photograph, every layer's hue map over it, CAM and the legend.

    Args:
        photo (np.ndarray): RGB in [0, 1], ``(h, w, 3)``.
        maps (Dict[str, HueMap]): By the layer's name.
        cam (np.ndarray, optional): ``(H, W)``.
        cam_title (str): What stands above it.
        palette (str): Of the hue.
        title (str): Of the figure.
        brightness (str): What it shows: ``'energy'`` or ``'norm'``.
        opacity (float): Share of the hue maps, whose colours are the legend's
            at 1; the rest is the photograph in grey.
    """
    with needs('lab'):
        from matplotlib.figure import Figure
    height, width = photo.shape[:2]
    count = 2 + len(maps) + (cam is not None)
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(3.1 * columns, (3.1 * height / width + 0.55) * rows + 0.4),
        layout='constrained',
    )
    cells = figure.add_gridspec(rows, columns)
    places = iter([cells[k // columns, k % columns] for k in range(count)])
    extent = (-width / 2, width / 2, -height / 2, height / 2)

    def panel(pixels: np.ndarray, text: str, **options: Any) -> 'Axes':
        ax = figure.add_subplot(next(places))
        ax.imshow(pixels, extent=extent, **options)
        ax.set_title(text, fontsize=10)
        ax.tick_params(labelsize=8)
        return ax

    first = panel(photo, 'what the network sees')
    first.set_xlabel('x from the optical axis (pixels)', fontsize=9)
    first.set_ylabel('y (pixels)', fontsize=9)
    for name, layer_map in maps.items():
        size = '×'.join(str(n) for n in layer_map.theta.shape)
        text = f'{mathtext(name, 30)}, {size}'
        if brightness == 'norm':
            known = layer_map.energy[layer_map.is_finite]
            text += f'\nlargest norm {np.sqrt(known.max(initial=0)):.3g}'
        lost = int((~layer_map.is_finite).sum())
        if lost:
            text += f'\nnot finite, grey: {lost} pixel(s)'
        colors = layer_map.colors(palette, brightness)
        panel(_overlay(colors, photo, opacity), text)
    if cam is not None:
        ax = panel(photo.mean(-1), cam_title, cmap='gray', vmin=0, vmax=1)
        limit = abs(cam).max() or 1.0
        image = ax.imshow(
            cam,
            extent=extent,
            cmap='PuOr_r',
            alpha=0.65,
            vmin=-limit,
            vmax=limit,
        )
        bar = figure.colorbar(image, ax=ax, shrink=0.9, location='bottom')
        bar.set_label('its mean, plus the bias, is the logit', fontsize=9)
        bar.ax.tick_params(labelsize=8)
    polar = figure.add_subplot(next(places), projection='polar')
    draw_wheel(cast('PolarAxes', polar), palette, brightness)
    if title:
        figure.suptitle(mathtext(title, 120), fontsize=11)
    return figure
