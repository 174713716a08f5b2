"""Checkpoints from when the method wrapped a model's neck and head."""

from typing import Any, Dict, Mapping

#: What a name began with, and begins with now.
_RENAMED = {
    'head.class_angles.': 'u1.class_angles.',
    'neck.feature_planes.': 'u1.neck.feature_planes.',
    'neck.neck.': 'neck.',
}
_TOOL = 'tools/model_converters/u1_branch_layout.py'


def to_branch_layout(state_dict: Mapping[str, Any]) -> Dict[str, Any]:
    """The state of a wrapped model under the names of its U(1) twin.

    Args:
        state_dict (Mapping[str, Any]): Of ``U1ClsHead`` and
            ``BottleneckAngleNeck`` around a head and a neck.

    Returns:
        dict[str, Any]: For ``U1ImageClassifier``, with the same values.
    """
    renamed = {}
    for name, value in state_dict.items():
        for old, new in _RENAMED.items():
            if name.startswith(old):
                name = new + name[len(old) :]
                break
        renamed[name] = value
    return renamed


def refuse_old_layout(
    state_dict: Mapping[str, Any], prefix: str, *args
) -> None:
    """Raise ValueError where a checkpoint's class angles lie in its head.

    A hook before loading: a loader that is not strict would leave them out,
    and a neck's own parameters with them, with a warning alone.
    """
    name = f'{prefix}head.class_angles.angles'
    if name in state_dict:
        raise ValueError(
            f'the checkpoint holds {name!r}, as those of a model whose neck '
            f'and head U(1) wrapped; python {_TOOL} OLD.pth NEW.pth converts it'
        )
