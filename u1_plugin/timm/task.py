"""timm's classification tasks with the U(1) branch beside the network."""

import numbers
from contextlib import contextmanager, nullcontext
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
from timm.task import ClassificationTask, MultiLabelClassificationTask
from timm.utils import unwrap_model
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..nn import U1Branch
from ..nn.branch import build_branch
from ..nn.dry_run import count_logits
from ..nn.targets import IGNORED
from .criterion_targets import TargetForm, form_of, several_of, target_of

_PREFIX = 'u1.'


def _trained(module: nn.Module) -> List[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def _versions(module: nn.Module) -> List[int]:
    """Numbers that change when an optimizer steps."""
    return [parameter._version for parameter in _trained(module)]


def _branch(
    model: nn.Module, u1: Optional[Dict[str, Any]], form: TargetForm
) -> U1Branch:
    """The branch of a network of timm, with its criterion's ignored label."""
    if u1 is not None and not isinstance(u1, Mapping):
        raise ValueError(
            f'u1={u1!r} must be a dict of configs, such as '
            "dict(neck=dict(plane='image')), or None"
        )
    options = dict(u1 or {})
    loss = options.get('loss') or {}
    if form.ignore_index != IGNORED and isinstance(loss, dict):
        options['loss'] = {'ignore_index': form.ignore_index, **loss}
    classes = getattr(model, 'num_classes', None)
    if classes is None:
        classes = count_logits(model)
    elif not isinstance(classes, numbers.Integral) or classes < 1:
        classes = None  # without a classifier
    return build_branch(
        'u1',
        model,
        options,
        classes,
        f'model={type(model).__name__}',
        "timm's loaders do not say which images were mirrored; set "
        "u1.neck.flip='ignore', or train with U1Branch in a loop of your own "
        'and hand it the flips',
    )


class U1TaskMixin:
    """Gives a classification task of timm a U(1) branch.

    The branch is :attr:`u1`. It reads ``trainable_module``, which stays timm's
    own: EMA, evaluation and the ``state_dict`` of checkpoints know nothing of
    it. Its state, the class angles above all, is the task's (``task_state``,
    under ``u1.``).

    A learned plane (``basis='learned'``) has parameters, which the optimizer
    needs beside the network's::

        optimizer.add_param_group(dict(params=list(task.u1.parameters())))
    """

    def __init__(
        self,
        model: nn.Module,
        *args,
        u1: Optional[Dict[str, Any]] = None,
        **kwargs,
    ) -> None:
        super().__init__(model, *args, **kwargs)
        form = self._form_now()
        branch = _branch(model, u1, form)
        if getattr(branch.loss, 'reduction', 'mean') == 'none':
            branch.detach()  # no error leaves a hook behind
            raise ValueError(
                "u1.loss.reduction='none' gives a loss an image, and a task "
                "of timm trains with one number; use 'mean' or 'sum'"
            )
        parameter = next(model.parameters(), None)
        device = self.device if parameter is None else parameter.device
        self._form = form
        self._versions: Optional[Tuple[List[int], List[int]]] = None
        self._reached = False  # by a backward pass
        self._suspected = False  # that the optimizer leaves the branch out
        # Wrapped for distributed training, as `trainable_module` is.
        self.u1_module = branch.to(device)

    @property
    def u1(self) -> U1Branch:
        """The branch."""
        return unwrap_model(self.u1_module)

    def forward(self, input: Tensor, target: Tensor) -> Dict[str, Tensor]:
        """The task's result with the U(1) loss added.

        Args:
            input (Tensor): Images ``(B, C, H, W)``.
            target (Tensor): Labels ``(B,)`` or scores ``(B, K)``.

        Returns:
            dict[str, Tensor]: ``loss``, the total; ``output``, the logits;
            ``loss_one_hot`` and ``loss_u1``, its parts; with several layers
            or planes also theirs.

        Raises:
            ValueError: If targets or maps do not fit, or the optimizer leaves
                the branch's parameters out.
        """
        if isinstance(input, Mapping):
            raise ValueError(
                'input is a dict, as of the NaFlex loaders, whose patches of '
                'images of many sizes form no map; train with images (B, C, '
                'H, W), or without the U(1) branch'
            )
        self._check_optimizer()
        if not torch.compiler.is_compiling():
            self._follow_criterion()
        if self._several():
            targets = several_of(target, self._form)
        else:
            classes = self.u1.class_angles.num_classes
            targets = target_of(target, self._form, classes)
        # Before the criterion, whose words for a wrong label are torch's.
        self.u1.check_target(targets, len(input))
        with self.u1.reading():
            result = super().forward(input, target)
        losses = self.u1_module(targets)
        # `task.zero_grad()` takes the gradients by which one would know.
        watched = bool(self._versions) and not torch.compiler.is_compiling()
        if watched and losses['loss_u1'].requires_grad:
            losses['loss_u1'].register_hook(self._reach)
        one_hot = result['loss']
        result.update(losses, loss_one_hot=one_hot)
        result['loss'] = one_hot + losses['loss_u1']
        return result

    def _several(self) -> bool:
        return getattr(self, 'multi_label', False)  # not so of distillation's

    def _form_now(self) -> TargetForm:
        return form_of(self.criterion, self._several())

    def _follow_criterion(self) -> None:
        """Another criterion, or another smoothing, since the last step."""
        form = self._form_now()
        if form.ignore_index != self._form.ignore_index:
            raise ValueError(
                f'criterion.ignore_index={form.ignore_index} was '
                f'{self._form.ignore_index} when the task was built, and the '
                'U(1) loss leaves out that label; build the task anew'
            )
        self._form = form

    def _reach(self, gradient: Tensor) -> None:
        self._reached = True

    def _check_optimizer(self) -> None:
        """Whether the step that trained the network trained the branch."""
        if not _trained(self.u1) or not self.training or self._versions == ():
            return
        versions = _versions(self.trainable_module), _versions(self.u1)
        if self._versions is None:
            self._versions = versions
        elif versions[0] != self._versions[0]:
            lacks_gradient = [p.grad is None for p in _trained(self.u1)]
            if all(lacks_gradient) and not self._reached:
                # No backward pass yet: loaded, or copied, and not stepped.
                self._versions = versions
                return
            if versions[1] != self._versions[1]:
                self._versions = ()
            elif not self._suspected:  # or its weights were put back once
                self._suspected, self._versions = True, versions
            else:
                raise ValueError(
                    "u1.neck.feature_plane.basis='learned' has parameters, "
                    'but the optimizer stepped without them; '
                    'optimizer.add_param_group(dict(params='
                    'list(task.u1.parameters()))) before training'
                )

    def prepare_distributed(
        self, device_ids: Optional[list] = None, **ddp_kwargs
    ) -> 'U1TaskMixin':
        """Wrap the network, and the branch where it has parameters."""
        super().prepare_distributed(device_ids, **ddp_kwargs)
        for tensor in self.u1.state_dict().values():
            torch.distributed.broadcast(tensor, 0)
        if _trained(self.u1):
            self.u1_module = DistributedDataParallel(
                self.u1_module, device_ids=device_ids
            )
        return self

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let gradients accumulate on each rank, the branch's too."""
        wrapped = isinstance(self.u1_module, DistributedDataParallel)
        branch_context = self.u1_module.no_sync() if wrapped else nullcontext()
        with super().no_sync(), branch_context:
            yield

    def get_clip_parameters(self, exclude_head: bool = False):
        """The network's, as timm gives them, and the branch's."""
        parameters = super().get_clip_parameters(exclude_head=exclude_head)
        return [*parameters, *_trained(self.u1)]

    def get_task_state(
        self, module: Optional[nn.Module] = None, ema: bool = False
    ) -> Dict[str, Any]:
        """The parent's state, and the branch's under ``u1.``.

        An EMA network is for evaluation, where no branch runs.
        """
        state = dict(super().get_task_state(module=module, ema=ema))
        if not ema:
            for name, value in self.u1.state_dict().items():
                state[_PREFIX + name] = value
        return state

    def load_task_state(
        self,
        state: Optional[Dict[str, Any]],
        strict: bool = True,
        module: Optional[nn.Module] = None,
        ema: bool = False,
    ) -> None:
        """Load what :meth:`get_task_state` gave.

        A checkpoint of a plain task leaves the branch as it was built.
        """
        state = dict(state or {})
        names = [name for name in state if name.startswith(_PREFIX)]
        branch_state = {name: state.pop(name) for name in names}
        super().load_task_state(state, strict=strict, module=module, ema=ema)
        if branch_state and not ema:
            # Under its name, so that messages tell the checkpoint's keys.
            named = nn.ModuleDict({_PREFIX[:-1]: self.u1})
            named.load_state_dict(branch_state, strict=strict)


class U1ClassificationTask(U1TaskMixin, ClassificationTask):
    """timm's ``ClassificationTask`` with a U(1) branch.

    Hard labels, the criterion's label smoothing, and the scores of Mixup and
    CutMix are followed exactly: the target is ``sum_c p_c t_c`` of the very
    shares ``p_c`` that the criterion compares. Of shares that it binarises
    (``target_threshold``) the target is the mean of the classes above it.

    Args:
        model (nn.Module): A network of timm, or any that gives logits.
        criterion, criterion_kwargs, device, dtype, verbose: timm's.
        u1 (dict, optional): Configs ``neck``
            (:class:`~u1_plugin.nn.BottleneckAngleNeck`), ``class_angles``
            (:class:`~u1_plugin.nn.ClassAngles`) and ``loss``
            (:class:`~u1_plugin.nn.U1Loss`), each with defaults for all.

    Raises:
        ValueError: If an option is out of its range, a layer cannot be read,
            or targets cannot be followed.

    Examples:
        >>> import timm, torch
        >>> from u1_plugin.timm import U1ClassificationTask
        >>> model = timm.create_model('resnet10t', num_classes=10)
        >>> u1 = dict(neck=dict(plane='image'), loss=dict(loss_weight=0.3))
        >>> task = U1ClassificationTask(model, u1=u1, verbose=False)
        >>> images, labels = torch.randn(2, 3, 64, 64), torch.tensor([3, 7])
        >>> task(images, labels)['loss'].backward()
    """


class U1MultiLabelClassificationTask(U1TaskMixin, MultiLabelClassificationTask):
    """timm's ``MultiLabelClassificationTask`` with a U(1) branch.

    The target is the mean of the class points of an image's labels; an image
    without a label is not counted. ``u1`` as in :class:`U1ClassificationTask`.
    """
