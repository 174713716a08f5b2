"""Pictures of an analysis: energy, Sombrero, angles, information.

Every function returns a figure that is attached to no screen. Colours are
told apart by colour-blind readers, and nothing is told by colour alone.
"""

from .angle_figures import (
    MAX_CLASSES,
    information_bars,
    moment_clouds,
    plane_agreement,
    polar_histograms,
)
from .drawing import BLUE, ORANGE, png, short, title_of
from .energy_figures import energy_maps, radial_profiles, sombrero_surfaces

__all__ = [
    'BLUE',
    'MAX_CLASSES',
    'ORANGE',
    'energy_maps',
    'information_bars',
    'moment_clouds',
    'plane_agreement',
    'png',
    'polar_histograms',
    'radial_profiles',
    'short',
    'sombrero_surfaces',
    'title_of',
]
