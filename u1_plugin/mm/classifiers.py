"""MMPretrain's classifiers with the U(1) branch beside them."""

from typing import Any, List, Mapping, Optional, Tuple

import torch
from mmengine.logging import MessageHub
from mmpretrain.models.classifiers import (
    HuggingFaceClassifier,
    ImageClassifier,
    TimmClassifier,
)
from mmpretrain.models.heads import ClsHead, MultiLabelClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..networks import unwrapped
from ..nn import U1Branch
from ..nn.branch import build_branch
from ..nn.dry_run import count_logits
from .flips import check_flips_of, flips_of
from .pretrained import keep_pretrained, say_kept
from .sample_targets import smoothing_of, smooths_scores_otherwise, targets_of

_MIXED_FLIPS = (
    'model.train_cfg.augments mixes images of different flips; set '
    "u1.neck.flip='ignore' or train without Mixup and CutMix"
)


class U1ClassifierMixin:
    """Gives any classifier of MMPretrain's interface a U(1) branch.

    A classifier of one's own takes it in front::

        @MODELS.register_module()
        class U1MyClassifier(U1ClassifierMixin, MyClassifier):
            pass

    The classifier is built first and keeps the names of its parameters; the
    branch is ``self.u1``. Only ``loss`` is extended: in training it also
    returns ``loss_u1`` and, with several layers or planes, their parts.
    Prediction, export and FLOPs are the classifier's own. Its head, if it has
    one, is ``self.head``, whose loss the targets follow.

    Args:
        u1 (dict, optional): Configs ``neck``
            (:class:`~u1_plugin.nn.BottleneckAngleNeck`), ``class_angles``
            (:class:`~u1_plugin.nn.ClassAngles`) and ``loss``
            (:class:`~u1_plugin.nn.U1Loss`), each with defaults for all.

    Raises:
        ValueError: If an option is out of its range, a layer cannot be read,
            or the head has no classes to give angles to.
    """

    def __init__(self, *args, u1: Optional[dict] = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        _check_head(self)
        for hook in (_undo_prefix, _refuse_old_layout):
            self._register_load_state_dict_pre_hook(hook)
        self.u1 = _branch(self, u1)
        self._flips_of: Optional[str] = None
        # A run's name, and its config.
        self._config_of: Tuple[Optional[str], Optional[str]] = None, None
        self._follow_one_hot_loss()

    def loss(
        self, inputs: Tensor, data_samples: List[DataSample], **kwargs
    ) -> dict:
        """The classifier's losses and ``loss_u1``.

        Args:
            inputs (Tensor): ``(B, C, H, W)``.
            data_samples (List[DataSample]): With ``gt_label``, or with
                ``gt_score`` after batch augmentation.
            **kwargs: For the classifier.

        Returns:
            dict[str, Tensor]: The classifier's items and the branch's.

        Raises:
            ValueError: If targets or maps do not fit; see :class:`U1Branch`.
        """
        if not torch.compiler.is_compiling():
            self._check_data_set()
        if _loss_module(self) is not self._one_hot_loss[0]:
            self._follow_one_hot_loss()  # SwitchRecipeHook puts in another
        target = targets_of(
            data_samples,
            self._smoothing,
            isinstance(getattr(self, 'head', None), MultiLabelClsHead),
            _loss_module(self) if self._smooths_scores else None,
        )
        # Before the one-hot loss, whose words for a wrong label are CUDA's.
        self.u1.check_target(target, len(inputs))
        with self.u1.reading():
            losses = super().loss(inputs, data_samples, **kwargs)
        flips = None
        if self.u1.neck.flip == 'follow':
            if _mixes(self.data_preprocessor):  # since SwitchRecipeHook
                raise ValueError(_MIXED_FLIPS)
            flips = flips_of(data_samples)
            if not torch.compiler.is_compiling():
                self._check_flips()
        losses.update(self.u1(target, flips))
        return losses

    def _follow_one_hot_loss(self) -> None:
        module, classes = _loss_module(self), self.u1.class_angles.num_classes
        self._smoothing = smoothing_of(module, classes)
        self._smooths_scores = smooths_scores_otherwise(module, self._smoothing)
        # In a tuple, for as an attribute it would be a module of this one too.
        self._one_hot_loss = (module,)

    def _check_flips(self) -> None:
        hub = MessageHub.get_current_instance()
        config = hub.get_info('cfg')
        name, run_config = self._config_of
        if name == hub.instance_name and run_config:
            config = run_config
        if hub.get_info('loop_stage') != 'train' or not config:
            return
        if config is not self._flips_of:  # once a run
            check_flips_of(config)
            self._flips_of = config

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # A Runner that resumes loads weights first, and then what the hub of
        # the checkpoint's run knew, its config in place of this run's.
        hub = MessageHub.get_current_instance()
        self._config_of = hub.instance_name, hub.get_info('cfg')
        super()._load_from_state_dict(*args, **kwargs)

    def _check_data_set(self) -> None:
        hub = MessageHub.get_current_instance()
        # MMEngine keeps these two while, and only while, a runner trains.
        trains = hub.get_info('loop_stage') == 'train'
        classes = (hub.get_info('dataset_meta') or {}).get('classes')
        expected = self.u1.class_angles.num_classes
        if trains and classes is not None and len(classes) != expected:
            raise ValueError(
                f'model.head.num_classes={expected}, but the training data '
                f'set has {len(classes)} classes; set model.head.num_classes='
                f'{len(classes)}, train on another data set or, if a training '
                'was broken off, first call MessageHub.get_current_instance()'
                ".pop_info('loop_stage')"
            )


def _loss_module(classifier: nn.Module) -> Optional[nn.Module]:
    head = getattr(classifier, 'head', None)
    return getattr(classifier if head is None else head, 'loss_module', None)


def _check_head(classifier: nn.Module) -> None:
    """Raise ValueError if a head goes by another name than MMPretrain's."""
    if getattr(classifier, 'head', None) is not None:
        return
    for name, module in classifier.named_modules():
        if isinstance(module, (ClsHead, MultiLabelClsHead)):
            raise ValueError(
                f'model.{name} is a {type(module).__name__}, but the targets '
                "follow the loss of model.head; call the classifier's head so"
            )


def _mixes(preprocessor: nn.Module) -> bool:
    return getattr(preprocessor, 'batch_augments', None) is not None


def _branch(classifier: nn.Module, u1: Optional[dict]) -> U1Branch:
    no_flips = None
    if _mixes(classifier.data_preprocessor):
        no_flips = _MIXED_FLIPS
    head = type(getattr(classifier, 'head', None)).__name__
    return build_branch(
        'model.u1',
        classifier,
        u1,
        num_classes_of(classifier),
        f'model.head={head}',
        no_flips,
    )


def num_classes_of(classifier: nn.Module) -> Optional[int]:
    """K of a classifier's head, or of the network that holds its head.

    Raises:
        ValueError: If the head has several tasks.
    """
    head = getattr(classifier, 'head', None)
    if hasattr(head, 'task_heads'):
        raise ValueError(
            f'model.head={type(head).__name__} has several tasks, and the '
            'U(1) branch gives angles to the classes of one; train one task, '
            "or keep model.type='ImageClassifier'"
        )
    network = getattr(classifier, 'model', None)
    config = getattr(network, 'config', None)  # of transformers
    for owner, name in (
        (head, 'num_classes'),
        (getattr(classifier, 'backbone', None), 'num_classes'),
        (network, 'num_classes'),
        (config, 'num_labels'),
    ):
        value = getattr(owner, name, None)
        if isinstance(value, int) and value > 0:
            return value
    # Some heads keep no such number; without a head there are no logits.
    return None if head is None else count_logits(classifier)


def class_names(model: nn.Module, metainfo: Mapping[str, Any]) -> List[str]:
    """Names of the data set's classes, or their numbers in the head.

    Raises:
        ValueError: If neither knows how many there are.
    """
    names = metainfo.get('classes')
    if names is not None and len(names):
        return [str(name) for name in names]
    count = num_classes_of(unwrapped(model))
    if not count:
        raise ValueError(
            'the data set names no classes and model.head has no num_classes; '
            "set the data set's metainfo=dict(classes=[...])"
        )
    return [str(index) for index in range(count)]


class U1ImageClassifier(U1ClassifierMixin, ImageClassifier):
    """MMPretrain's ``ImageClassifier`` with a U(1) branch.

    See :class:`U1ClassifierMixin` for ``u1``; every other argument is
    ``ImageClassifier``'s, and its checkpoints load as they are.

    Examples:
        >>> model = dict(
        ...     type='U1ImageClassifier',
        ...     backbone=dict(type='ResNet', depth=18),
        ...     neck=dict(type='GlobalAveragePooling'),
        ...     head=dict(
        ...         type='LinearClsHead', num_classes=10, in_channels=512
        ...     ),
        ...     u1=dict(neck=dict(plane='image'), loss=dict(loss_weight=0.3)),
        ... )
    """


class U1TimmClassifier(U1ClassifierMixin, TimmClassifier):
    """MMPretrain's ``TimmClassifier`` with a U(1) branch.

    See :class:`U1ClassifierMixin`. Checkpoints are timm's, and the branch's
    state lies in them under ``u1.``. With ``pretrained=True`` a training begins
    with timm's weights, which the stock classifier loses.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = dict(zip(('model_name', 'pretrained'), args), **kwargs)
        self._kept = keep_pretrained(self, options)

    def init_weights(self) -> None:
        """Initialise as MMEngine does, but for weights that were loaded."""
        super().init_weights()
        if self._kept:
            say_kept()


class U1HuggingFaceClassifier(U1ClassifierMixin, HuggingFaceClassifier):
    """MMPretrain's ``HuggingFaceClassifier`` with a U(1) branch.

    See :class:`U1ClassifierMixin`. Checkpoints are those of transformers, and
    the branch's state lies in them under ``u1.``.
    """


def _refuse_old_layout(
    state_dict: Mapping[str, Any], prefix: str, *args
) -> None:
    """Refuse a checkpoint from when U(1) wrapped a model's neck and head.

    A hook before loading: a loader that is not strict would leave the class
    angles and the neck's own parameters out, with a warning alone.
    """
    name = f'{prefix}head.class_angles.angles'
    if name in state_dict:
        raise ValueError(
            f'the checkpoint holds {name!r}, as those of a model whose neck '
            'and head U(1) wrapped; python tools/model_converters/'
            'u1_branch_layout.py OLD.pth NEW.pth converts it'
        )


def _undo_prefix(state_dict: dict, prefix: str, *args) -> None:
    """Classifiers of timm and transformers take every key for ``model``'s."""
    start = f'{prefix}model.u1.'
    for key in [key for key in state_dict if key.startswith(start)]:
        state_dict[f'{prefix}u1.' + key[len(start) :]] = state_dict.pop(key)
