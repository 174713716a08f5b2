"""Files of an analysis that a U(1) config reads: planes and class angles."""

import json
from pathlib import Path
from typing import Optional, Sequence

import numpy as np

from .. import markup
from .report_numbers import jsonable
from .survey import LayerFinding


def write_planes(folder: Path, layer: LayerFinding) -> Path:
    """The PCA plane and the centre, as ``FeaturePlane(file=...)`` reads them.

    Returns:
        Path: Of the ``.npz`` file in ``folder``.
    """
    file = folder / f'{markup.file_name(layer.name)}.npz'
    np.savez(
        file,
        basis=layer.basis.astype(np.float32),
        center=layer.center.astype(np.float32),
    )
    return file


def write_class_angles(
    folder: Path, layer: LayerFinding, classes: Sequence[str], plane: str
) -> Optional[Path]:
    """Class angles as ``ClassAngles(mode='file', file=...)`` reads them.

    Args:
        folder (Path): Where the file goes.
        layer (LayerFinding): Whose angles.
        classes (Sequence[str]): Names of the classes.
        plane (str): Key of :data:`~.survey.PLANES`.

    Returns:
        Path: Of the JSON file; None if a class has no image with an angle,
        for which nothing was measured.
    """
    summary = layer.planes[plane]
    if not np.isfinite(summary.mean).all():
        return None
    file = folder / f'{markup.file_name(layer.name)}.{plane}.json'
    content = dict(
        class_angles=np.mod(summary.mean, 2 * np.pi),
        half_width=summary.half_width,
        resultant_length=summary.length,
        images=summary.count,
        classes=list(classes),
        layer=layer.name,
        plane=plane,
    )
    file.write_text(json.dumps(jsonable(content), indent=1))
    return file
