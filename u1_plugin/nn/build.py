"""A branch from the options that every framework hands over alike."""

from typing import Any, Dict, Optional

from torch import nn

from ..options import shown
from .branch import U1Branch

PARTS = ('neck', 'class_angles', 'loss')


def check_parts(field: str, u1: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """The options of a branch, copied.

    Args:
        field (str): As the user writes it, such as ``'model.u1'``.
        u1 (dict, optional): Of ``neck``, ``class_angles`` and ``loss``.

    Raises:
        ValueError: If it is no dict, or an option is unknown.
    """
    if u1 is not None and not isinstance(u1, dict):
        raise ValueError(
            f'{field}={shown(u1)} must be a dict with any of '
            f'{", ".join(PARTS)}, such as dict(neck=dict(plane="image"))'
        )
    options = dict(u1 or {})
    unknown = [name for name in options if name not in PARTS]
    if unknown:
        raise ValueError(
            f'{field} has no {unknown[0]!r}; it takes {", ".join(PARTS)}'
        )
    return options


def build_branch(
    field: str,
    model: nn.Module,
    u1: Optional[Dict[str, Any]],
    num_classes: Optional[int],
    silent: str,
    no_flips: Optional[str] = None,
) -> U1Branch:
    """The branch of a framework's classifier.

    Args:
        field (str): As the user writes it, such as ``'model.u1'``.
        model (nn.Module): Complete.
        u1 (dict, optional): Of ``neck``, ``class_angles`` and ``loss``.
        num_classes (int, optional): K, if the classifier says.
        silent (str): What does not say K if it is None, for the message.
        no_flips (str, optional): Why ``neck.flip='follow'`` cannot be served,
            for the message.

    Raises:
        ValueError: If an option is unknown, out of its range or cannot be
            served, or the number of classes is not known.
    """
    options = check_parts(field, u1)
    angles = options.get('class_angles') or {}
    # A module knows its own number; what is neither is refused when built.
    if num_classes is None and isinstance(angles, dict):
        if angles.get('num_classes') is angles.get('file') is None:
            raise ValueError(
                f'{silent} does not say how many classes there are '
                f'(num_classes); set {field}.class_angles.num_classes'
            )
    try:
        branch = U1Branch(model, num_classes, **options)
    except (ValueError, TypeError, FileNotFoundError) as error:
        # The branch calls itself u1; where that is, is known here.
        parent = field[: -len('u1')]
        if parent and str(error).startswith('u1.'):
            raise type(error)(f'{parent}{error}') from error
        raise
    if no_flips is not None and branch.neck.flip == 'follow':
        branch.detach()  # no error leaves a hook behind
        raise ValueError(f"{field}.neck.flip='follow', but {no_flips}")
    return branch
