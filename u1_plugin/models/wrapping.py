"""A head that *is* the head it wraps: a subclass of both, made on the spot."""

from functools import cache
from typing import Any, List, Optional

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn


def targets_of(data_samples: List[DataSample]) -> Tensor:
    """Labels ``(B,)``, or scores ``(B, K)`` after batch augmentation."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])


@cache
def _joined_class(wrapper: type, plain: type) -> type:
    """``U1LinearClsHead`` for ``LinearClsHead``: the wrapper, then the head."""
    name = wrapper.prefix + plain.__name__
    namespace = dict(
        _plain=plain, __module__=wrapper.__module__, __doc__=wrapper.__doc__
    )
    return type(name, (wrapper, plain), namespace)


def _restore(wrapper: type, plain: type) -> 'WrappedClsHead':
    return object.__new__(_joined_class(wrapper, plain))


def _plain_type(cls_head: Any) -> type:
    if not isinstance(cls_head, dict) or 'type' not in cls_head:
        raise TypeError(
            f'head.cls_head={cls_head!r} must be the config of a head, '
            "such as dict(type='LinearClsHead', ...) or _base_.model.head"
        )
    kind = cls_head['type']
    plain = MODELS.get(kind) if isinstance(kind, str) else kind
    if plain is None:
        raise KeyError(
            f'head.cls_head.type={kind!r} is not registered in '
            'MODELS; import its module by custom_imports'
        )
    if issubclass(plain, WrappedClsHead):
        raise TypeError(
            f'head.cls_head is a {plain.__name__} already, as it is when '
            'a U(1) config inherits from another; override its '
            'fields instead of wrapping it again'
        )
    if not hasattr(plain, 'loss'):
        raise TypeError(
            f'head.cls_head.type={kind!r} has no `loss` method, so '
            'it is not a classification head of MMPretrain'
        )
    return plain


class WrappedClsHead(BaseModule):
    """Base of heads that add a loss to a classification head.

    Building one gives an object of a class that inherits from the subclass and
    from the wrapped head's type. Parameters therefore keep their names
    (``head.fc.weight``) for checkpoints of the zoo, parameter-wise optimiser
    settings, EMA and sharding, and whatever is not overridden is the wrapped
    type's own code. ``prefix`` begins the made class's name.

    Args:
        cls_head (dict): Config of any registered classification head.

    Raises:
        TypeError: If ``cls_head`` is no config of a classification head.
        KeyError: If its type is not registered.
    """

    prefix = ''
    _plain: Optional[type] = None

    def __new__(cls, cls_head: Any = None, **kwargs) -> 'WrappedClsHead':
        if cls._plain is not None:
            return super().__new__(cls)
        return super().__new__(_joined_class(cls, _plain_type(cls_head)))

    def __init__(self, cls_head: dict) -> None:
        super().__init__(
            **{key: value for key, value in cls_head.items() if key != 'type'}
        )

    def __reduce_ex__(self, protocol):
        # pickle finds a class by its name, and this one has been made here.
        wrapper = type(self).__mro__[1]
        return _restore, (wrapper, self._plain), self.__dict__

    @staticmethod
    def _build(module: Any, default_type: str, **kwargs) -> nn.Module:
        """A module of a config; ``kwargs`` are defaults that it overrides."""
        if isinstance(module, nn.Module):
            return module
        return MODELS.build(dict(type=default_type) | kwargs | dict(module))
