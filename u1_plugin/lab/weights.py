"""Weights from a checkpoint, of which a network must get all that count.

MMEngine takes what a checkpoint has and warns of the rest: of another network's
it takes next to nothing, and the initial weights give plausible numbers.
"""

import copy
import re
from collections import OrderedDict
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmpretrain.models import TimmClassifier
from mmpretrain.registry import MODELS
from torch import nn

from ..mm.data import type_name
from ..mm.pretrained import keep_pretrained
from ..options import shown

#: Parts of a network that may differ from the checkpoint's, where what is read
#: are its maps.
BESIDE_THE_TRUNK = ('head', 'neck', 'data_preprocessor')
#: Names of the initialiser that loads weights: registered, and of its class.
_PRETRAINED = ('Pretrained', 'PretrainedInit')


def load_weights(
    model: nn.Module,
    checkpoint: str,
    may_lack: Sequence[str] = BESIDE_THE_TRUNK,
) -> None:
    """Load weights, of which only some parts may be missing.

    Args:
        model (nn.Module): A classifier of MMPretrain's; changed in place.
        checkpoint (str): A file, or an address that MMEngine knows. A prefix
            ``module.`` of the names, as of distributed trainings, is left out.
        may_lack (Sequence[str]): Names of modules of which weights may be
            missing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or does not fit the network.
    """
    state = _state_of(checkpoint)
    if isinstance(model, TimmClassifier):
        classifier = model.model.pretrained_cfg.get('classifier', 'head')
        state = _renamed(state, lambda key: _timm_key(key, classifier))
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:  # of weights of another shape
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'CHECKPOINT {checkpoint!r} does not fit the network: {reason}; '
            'give the checkpoint of this config, and no --size where its '
            'position embedding has one'
        ) from error
    missing = [
        key
        for key in missing
        if key.split('.')[0] not in may_lack
        and not key.endswith('num_batches_tracked')
    ]
    if missing:
        raise ValueError(
            f'CHECKPOINT {checkpoint!r} lacks {len(missing)} weights of the '
            f'network, such as {missing[0]!r}; give the checkpoint of this '
            'config'
        )


def classifier_of(
    config: Config,
    checkpoint: Optional[str] = None,
    may_lack: Sequence[str] = BESIDE_THE_TRUNK,
) -> nn.Module:
    """The config's classifier in eval mode, with the weights of a checkpoint.

    Without one, those that the config itself loads: by ``init_cfg``,
    ``pretrained`` or timm's ``checkpoint_path``.

    Raises:
        ValueError: If these leave a weight random that ``may_lack`` does not
            name; for what else is raised, see :func:`load_weights`.
    """
    if checkpoint is None:
        return _loaded_by(config, may_lack).eval()
    model = _built(config)
    load_weights(model, checkpoint, may_lack)
    return model.eval()


def model_config(config: Mapping[str, Any]) -> Any:
    """A copy of a config's model with the data preprocessor beside it.

    As MMEngine's runner does, where the model has none of its own.

    Raises:
        ValueError: If there is no model.
    """
    model = copy.deepcopy(config.get('model'))
    if not isinstance(model, Mapping) or not model:
        raise ValueError(
            f'model={shown(model)}: the config has no model; give the config '
            'of a classifier'
        )
    if config.get('data_preprocessor') is not None:
        preprocessor = copy.deepcopy(config['data_preprocessor'])
        model.setdefault('data_preprocessor', preprocessor)
    return model


def _built(config: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(model_config(config))


def _loaded_by(config: Config, may_lack: Sequence[str]) -> nn.Module:
    """A classifier that needs no checkpoint: two draws of it are alike."""
    draws = []
    for seed in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            draws.append(_built(config))
            keep_pretrained(draws[-1], config.model)
            draws[-1].init_weights()  # loads what `init_cfg` names
    first, second = (model.state_dict() for model in draws)
    differing = [
        name
        for name in first
        if name.split('.')[0] not in may_lack
        and not torch.equal(first[name], second[name])
    ]
    if differing:
        raise ValueError(
            f'CHECKPOINT is missing, and {len(differing)} weights of the '
            f'network would be random, such as {differing[0]!r}: the config '
            "loads none for them (by init_cfg=dict(type='Pretrained', ...) or "
            'pretrained=True); give its checkpoint'
        )
    return draws[0]


def loading_parts(config: Any) -> Iterator[Tuple[dict, str]]:
    """Parts of a model's config that load weights, and by which key."""
    inside = config if isinstance(config, (list, tuple)) else ()
    if isinstance(config, dict):
        init = config.get('init_cfg')
        steps = init if isinstance(init, (list, tuple)) else [init]
        if any(type_name(step or '') in _PRETRAINED for step in steps):
            yield config, 'init_cfg'
        for key in ('pretrained', 'checkpoint_path'):  # the latter is timm's
            if config.get(key):
                yield config, key
        inside = list(config.values())
    for part in inside:
        yield from loading_parts(part)


def weights_of(content: Any) -> Mapping[str, Any]:
    """The weights by name of what a checkpoint holds.

    Raises:
        ValueError: If there are none; the message goes on after its name.
    """
    state = content
    if isinstance(content, Mapping):
        # Those of MMEngine, and of DeiT, ConvNeXt and their like.
        states = [content[k] for k in ('state_dict', 'model') if k in content]
        state = states[0] if states else content
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) for name in state
    ):
        raise ValueError(
            f'holds {type(state).__name__}, and no weights by their names; '
            'give the checkpoint of this config'
        )
    return state


def _state_of(checkpoint: str) -> Mapping[str, Any]:
    """The weights by name, as a network that is not distributed calls them."""
    try:
        content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'CHECKPOINT {checkpoint!r} does not exist, or is no file; give '
            'the checkpoint of this config'
        ) from error
    except Exception as error:  # unpickling raises many kinds
        raise ValueError(
            f'CHECKPOINT {checkpoint!r} cannot be read: {error}; give the '
            'checkpoint of this config'
        ) from error
    try:
        state = weights_of(content)
    except ValueError as error:
        raise ValueError(f'CHECKPOINT {checkpoint!r} {error}') from error
    return _renamed(state, lambda key: key.removeprefix('module.'))


def _renamed(state: Mapping[str, Any], rename: Any) -> Mapping[str, Any]:
    """Weights by other names, with the versions of what saved them."""
    renamed = OrderedDict((rename(key), v) for key, v in state.items())
    # Else torch takes its modules for those of an old release.
    versions = getattr(state, '_metadata', {})
    renamed._metadata = OrderedDict(
        (rename(f'{name}.')[:-1], v) for name, v in versions.items()
    )
    return renamed


def _timm_key(key: str, classifier: str) -> str:
    """timm's name of a weight of MMPretrain's ``TIMMBackbone`` model."""
    key = key.removeprefix('backbone.timm_model.')
    return re.sub(r'^head\.fc\.', f'{classifier}.', key)
