"""Colour pictures of a map: hue, saturation and value of every pixel."""

from typing import Dict, Literal, NamedTuple, Optional, get_args

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from ...geometry import angle, energy, off_axis_angle, to_positive_orthant
from ...options import checked
from ..markup import mathtext
from .figures import short

#: ``'hsv'``: the colours of colour science, as for three channels.
#: ``'twilight'``: matplotlib's, for readers who do not see all of those.
Palette = Literal['hsv', 'twilight']
PALETTES = get_args(Palette)

#: Share of the hue map in the overlay; the rest is the photograph in grey.
_OPACITY = 0.7
_COLUMNS = 4


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

    def colors(self, palette: str = 'hsv') -> np.ndarray:
        """RGB in [0, 1], ``(H, W, 3)``: energy relative to its largest."""
        largest = self.energy.max()
        return to_rgb(
            self.theta,
            self.phi / (np.pi / 2),
            self.energy / (largest if largest > 0 else 1),
            palette,
        )


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
    hue = np.mod(theta / (2 * np.pi), 1)
    saturation, value = np.clip(saturation, 0, 1), np.clip(value, 0, 1)
    if palette == 'hsv':
        return hsv_to_rgb(np.stack([hue, saturation, value], -1))
    pure = matplotlib.colormaps['twilight_shifted'](hue)[..., :3]
    mixed = 1 + saturation[..., None] * (pure - 1)
    return mixed * value[..., None]


def hue_map(
    activation: Tensor, feature_plane: nn.Module, orthant: str = 'relu'
) -> HueMap:
    """Measure every pixel of one image's map.

    Args:
        activation (Tensor): ``A``, ``(C, H, W)``.
        feature_plane (nn.Module): ``(N, C) -> (N, 2)``, such as
            :class:`~u1_plugin.nn.FeaturePlane`.
        orthant (str): ``rho``.
    """
    intensity = to_positive_orthant(activation.float(), orthant)
    height, width = intensity.shape[1:]
    pixels = intensity.flatten(1).T
    theta = angle(feature_plane(pixels)).view(height, width)
    return HueMap(
        theta.cpu().numpy(),
        off_axis_angle(intensity, 0).cpu().numpy(),
        energy(intensity, 0).cpu().numpy(),
    )


def class_activation_map(
    activation: Tensor, fc: nn.Linear, logits: Tensor
) -> Optional[np.ndarray]:
    """CAM of the predicted class: the map weighted by that class' fc row.

    Args:
        activation (Tensor): ``A``, ``(C, H, W)``.
        fc (nn.Linear): The classifier.
        logits (Tensor): What the network gave for this image, ``(K,)``.

    Returns:
        np.ndarray: ``(H, W)``; its mean and the bias are the class' logit.
        None if the logits are not those of ``fc`` on the map's mean, for
        which CAM is not defined.
    """
    activation = activation.float()
    if fc.in_features != len(activation) or fc.out_features != len(logits):
        return None
    expected = fc(activation.mean((1, 2)))
    scale = logits.abs().max().clamp_min(1e-6)
    if (expected - logits).abs().max() > 1e-3 * scale:
        return None
    weights = fc.weight[logits.argmax()].float()
    return torch.einsum('c,chw->hw', weights, activation).cpu().numpy()


def _resize(pixels: np.ndarray, size: tuple) -> np.ndarray:
    """To ``(width, height)``, each map pixel a block of one colour."""
    image = Image.fromarray(np.round(255 * pixels).astype(np.uint8))
    return np.asarray(image.resize(size, Image.NEAREST)) / 255


def _overlay(colors: np.ndarray, photo: np.ndarray) -> np.ndarray:
    grey = photo.mean(-1, keepdims=True)
    height, width = photo.shape[:2]
    return _OPACITY * _resize(colors, (width, height)) + (1 - _OPACITY) * grey


def draw_wheel(ax: Axes, palette: str) -> None:
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
        'brightness: energy / its largest',
        fontsize=9.5,
    )


def hue_figure(
    photo: np.ndarray,
    maps: Dict[str, HueMap],
    cam: Optional[np.ndarray] = None,
    cam_title: str = '',
    palette: str = 'hsv',
    title: str = '',
) -> Figure:
    """The photograph, every layer's hue map over it, CAM and the legend.

    Args:
        photo (np.ndarray): RGB in [0, 1], ``(h, w, 3)``.
        maps (Dict[str, HueMap]): By layer.
        cam (np.ndarray, optional): ``(H, W)``.
        cam_title (str): Above it.
        palette (str): One of :data:`PALETTES`.
        title (str): Above all.
    """
    height, width = photo.shape[:2]
    count = 2 + len(maps) + (cam is not None)
    rows = -(-count // _COLUMNS)
    figure = Figure(
        figsize=(3.1 * _COLUMNS, (3.1 * height / width + 0.55) * rows + 0.4),
        layout='constrained',
    )
    cells = figure.add_gridspec(rows, _COLUMNS)
    places = iter([cells[k // _COLUMNS, k % _COLUMNS] for k in range(count)])
    extent = (-width / 2, width / 2, -height / 2, height / 2)

    def panel(pixels: np.ndarray, text: str, **options) -> Axes:
        ax = figure.add_subplot(next(places))
        ax.imshow(pixels, extent=extent, **options)
        ax.set_title(text, fontsize=10)
        ax.tick_params(labelsize=8)
        return ax

    first = panel(photo, 'what the network sees')
    first.set_xlabel('x from the optical axis (pixels)', fontsize=9)
    first.set_ylabel('y (pixels)', fontsize=9)
    for name, own in maps.items():
        size = '×'.join(str(n) for n in own.theta.shape)
        text = f'{mathtext(short(name), 30)}, {size}'
        panel(_overlay(own.colors(palette), photo), text)
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
    draw_wheel(figure.add_subplot(next(places), projection='polar'), palette)
    if title:
        figure.suptitle(mathtext(title, 120), fontsize=11)
    return figure
