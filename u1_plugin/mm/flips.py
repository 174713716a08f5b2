"""Which images were mirrored, for ``u1.neck.flip='follow'``."""

import ast
from typing import Iterator, List, Sequence, Tuple

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

#: Of torchvision and Albumentations: they mirror and leave no note of it.
_SILENT = (
    'RandomHorizontalFlip',
    'RandomVerticalFlip',
    'HorizontalFlip',
    'VerticalFlip',
    'Flip',
    'Transpose',
    'D4',
    'SquareSymmetry',
    'RandomRotate90',
)
_USE_ONE = (
    "use one, such as dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], "
    "direction=['horizontal', 'vertical', 'diagonal'])"
)


def flips_of(data_samples: Sequence[DataSample]) -> Tensor:
    """Which images were mirrored: horizontally, vertically; ``(B, 2)``, bool.

    Raises:
        ValueError: If a sample's meta information does not say.
    """
    rows = []
    for sample in data_samples:
        if 'flip' not in sample.metainfo:
            raise ValueError(
                "u1.neck.flip='follow', but a data sample does not say whether "
                "it was flipped; have RandomFlip in the pipeline and 'flip' "
                "and 'flip_direction' in PackInputs.meta_keys, or set "
                "u1.neck.flip='ignore'"
            )
        rows.append(_flip_row(sample.metainfo))
    return torch.tensor(rows)


def _flip_row(meta: dict) -> List[bool]:
    if not meta['flip']:
        return [False, False]
    direction = meta.get('flip_direction')
    directions = ('horizontal', 'vertical', 'diagonal')
    if not isinstance(direction, str) or direction not in directions:
        raise ValueError(
            f"u1.neck.flip='follow': flip_direction={direction!r} of a data "
            f'sample is none of {directions}'
        )
    return [direction != 'vertical', direction != 'horizontal']


def check_flips_of(config: str) -> None:
    """Refuse training pipelines whose samples do not tell all their flips.

    ``config`` is the run's as MMEngine writes it. Pipelines are those of
    ``train_dataloader`` and those that a hook puts in its place, as
    ``SwitchRecipeHook`` does.

    Raises:
        ValueError: If an image may pass ``RandomFlip`` more than once, each of
            which overwrites what the one before it told of the sample, or a
            flip of another library, which tells nothing.
    """
    for where, pipeline in _pipelines(config):
        for node in ast.walk(pipeline):
            if _type_of(node) in _SILENT:
                raise ValueError(
                    f"u1.neck.flip='follow', but {where} has "
                    f'{_type_of(node)}, of which a sample does not tell; '
                    f'{_USE_ONE}'
                )
        count = _flips(pipeline)
        if count > 1:
            raise ValueError(
                f"u1.neck.flip='follow', but an image may pass RandomFlip "
                f'{count} times in a pipeline of {where}, and a sample tells '
                f'of the last one alone; {_USE_ONE}'
            )


def _pipelines(config: str) -> Iterator[Tuple[str, ast.expr]]:
    values = {
        target.id: node.value
        for node in ast.parse(config).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if 'train_dataloader' in values:
        yield 'train_dataloader', values['train_dataloader']
    if 'custom_hooks' in values:
        for node in ast.walk(values['custom_hooks']):
            for name, value in _options(node):
                if name == 'train_pipeline':
                    yield 'custom_hooks: train_pipeline', value


def _flips(node: ast.expr) -> int:
    """How often an image may pass ``RandomFlip`` in a part of a config."""
    if isinstance(node, (ast.List, ast.Tuple)):
        counts = [_flips(entry) for entry in node.elts]
        # Data sets side by side, or lists of steps, one of which is chosen.
        return max(counts) if _is_choice(node) else sum(counts)
    if _type_of(node) == 'RandomChoice':
        lists = [value for _, value in _options(node)]
        steps = [e for node in lists for e in getattr(node, 'elts', ())]
        return max(map(_flips, steps), default=0)
    inside = sum(_flips(value) for _, value in _options(node))
    return inside + (_type_of(node) == 'RandomFlip')


def _is_choice(node: ast.expr) -> bool:
    return any(
        isinstance(entry, (ast.List, ast.Tuple))
        or {'pipeline', 'dataset', 'datasets'} & {n for n, _ in _options(entry)}
        for entry in getattr(node, 'elts', ())
    )


def _options(node: ast.AST) -> List[Tuple[str, ast.expr]]:
    """Names and values of a ``dict(...)`` or ``{...}``."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values)
        return [
            (str(key.value), value)
            for key, value in pairs
            if isinstance(key, ast.Constant)
        ]
    keywords = getattr(node, 'keywords', ())
    return [(word.arg or '', word.value) for word in keywords]


def _type_of(node: ast.AST) -> str:
    """The type of a component in a config's text, without its package."""
    for name, value in _options(node):
        if name == 'type' and isinstance(value, ast.Constant):
            return str(value.value).replace('/', '.').rpartition('.')[2]
    return ''
