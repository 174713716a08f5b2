"""Training tasks of timm with the U(1) branch, on timm's own networks."""

import copy
import sys

import pytest
import timm_ranks
import torch
from commands import printed
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from timm import loss as timm_loss
from timm.utils import CheckpointSaver
from timm_ranks import batch, gradients, network, scores_of, task_of

import u1_plugin  # noqa: F401  (registers U1TimmClassifier)
from u1_plugin.timm import U1ClassificationTask

CLASSES = timm_ranks.CLASSES
JOINT = timm_ranks.JOINT
NETWORKS = ('resnet', 'swin')


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('soft', [False, True])
def test_it_trains_as_its_twin_of_mmpretrain(name, soft):
    images, labels = batch()
    twin = MODELS.build(
        dict(
            type='U1TimmClassifier',
            **timm_ranks.CASES[name],
            num_classes=CLASSES,
            loss=dict(type='CrossEntropyLoss', use_soft=True)
            if soft
            else dict(type='LabelSmoothLoss', label_smooth_val=0.1),
            u1=JOINT,
        )
    ).train()
    criterion = timm_loss.LabelSmoothingCrossEntropy(0.1)
    if soft:
        criterion = timm_loss.SoftTargetCrossEntropy()
    task = task_of(name, criterion)
    twin.model.load_state_dict(task.trainable_module.state_dict())
    samples = [DataSample().set_gt_label(label) for label in labels]
    target = labels
    if soft:
        target = scores_of(labels)
        samples = [DataSample().set_gt_score(score) for score in target]
    losses = twin.loss(images, samples)
    result = task(images, target)
    torch.testing.assert_close(result['loss_u1'], losses['loss_u1'])
    torch.testing.assert_close(result['loss_one_hot'], losses['loss'])
    total = losses['loss'] + losses['loss_u1']
    torch.testing.assert_close(result['loss'], total)
    result['loss'].backward()
    total.backward()
    pairs = list(
        zip(
            gradients(task.trainable_module),
            gradients(twin.model),
        )
    )
    assert len(pairs) > 20
    for own, other in pairs:
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('name', NETWORKS)
def test_it_trains_with_ema_and_autocast(name):
    task = task_of(name)
    ema = task.setup_ema(decay=0.5)
    optimizer = torch.optim.SGD(task.get_clip_parameters(), 0.02)
    images, labels = batch()
    history, expected = [], copy.deepcopy(task.trainable_module).state_dict()
    for _ in range(4):
        with torch.autocast('cpu', torch.bfloat16):
            result = task(images, labels)
        assert result['output'].dtype == torch.bfloat16
        assert result['loss_u1'].dtype == torch.float32
        history.append(result['loss_u1'].item())
        optimizer.zero_grad()
        result['loss'].backward()
        optimizer.step()
        task.update_ema()
        for key, value in task.trainable_module.state_dict().items():
            if value.is_floating_point():
                expected[key] = 0.5 * expected[key] + 0.5 * value
    assert history[-1] < history[0]
    for key, value in ema.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[key])
    # Evaluation is the network's own.
    task.eval()
    with torch.no_grad():
        a = task.get_eval_model(ema=True).module(images)
    plain = network(name).eval()
    plain.load_state_dict(ema.module.state_dict())
    with torch.no_grad():
        assert torch.equal(a, plain(images))


def test_the_branch_computes_in_float32_under_autocast():
    task = task_of('swin', u1=dict(neck=dict(plane='joint')))
    images, labels = batch()
    maps = []
    task.trainable_module.norm.register_forward_hook(
        lambda module, args, output: maps.append(output)
    )
    with torch.autocast('cpu', torch.bfloat16):
        result = task(images, labels)
    values = maps[0].permute(0, 3, 1, 2).detach().float()
    moments = task.u1.neck([values])
    points = task.u1.class_angles()
    losses = [task.u1.loss(m.value, labels, points) for m in moments]
    wanted = sum(losses) / 2
    torch.testing.assert_close(result['loss_u1'], wanted, rtol=1e-6, atol=0)


def test_a_task_in_half_precision_keeps_its_angles():
    task = task_of('swin', u1=timm_ranks.STATEFUL)
    before = {k: v.clone() for k, v in task.u1.state_dict().items()}
    task.to(torch.bfloat16)
    assert task.dtype == torch.bfloat16
    images, labels = batch()
    result = task(images.bfloat16(), labels)
    assert result['output'].dtype == torch.bfloat16
    assert result['loss_u1'].dtype == torch.float32
    after = task.u1.state_dict()
    assert torch.equal(
        after['class_angles.angles'], before['class_angles.angles']
    )
    assert {v.dtype for v in after.values() if v.is_floating_point()} == {
        torch.float32
    }


def test_compiled_it_gives_the_same_loss_and_gradient():
    images, labels = batch()
    found = []
    for compiled in (False, True):
        model = network('compiled')
        task = U1ClassificationTask(model, u1=JOINT).train()
        if compiled:
            task.compile(backend='aot_eager', fullgraph=True)
        result = task(images, labels)
        result['loss_u1'].backward()
        found.append((result, gradients(model.layers)))
        assert len(found[-1][1]) == len(list(model.layers.parameters()))
    for key in ('loss', 'loss_u1', 'output'):
        torch.testing.assert_close(found[0][0][key], found[1][0][key])
    for eager, compiled in zip(found[0][1], found[1][1]):
        torch.testing.assert_close(eager, compiled)
        assert (eager != 0).any()


def test_two_ranks_train_as_one(root, environment, tmp_path):
    script = str(root / 'tests/timm/timm_ranks.py')
    command = ['-m', 'torch.distributed.run', '--nproc_per_node=2']
    command += ['--standalone', script, 'two.pt']
    printed([sys.executable, *command], cwd=tmp_path, env=environment)
    two = torch.load(tmp_path / 'two.pt')
    assert all(found['agree'] for found in two.values())
    # A batch norm's ranks see other batches; the Swin has none.
    for name in ('swin', 'compiled'):
        one = timm_ranks.state_of(timm_ranks.case(name))
        start = network(name).state_dict()
        assert one.keys() == two[name]['state'].keys()
        assert {'u1.class_angles.angles'} < one.keys() - start.keys()
        for key, value in two[name]['state'].items():
            torch.testing.assert_close(value, one[key], msg=key)
        assert not torch.equal(one['norm.weight'], start['norm.weight'])
    resnet = two['resnet']['state']
    weight = 'layer4.0.conv1.weight'
    assert not torch.equal(resnet[f'ema.{weight}'], resnet[weight])


def test_checkpoints_of_timm_carry_the_class_angles(tmp_path):
    angles = dict(mode='random', seed=3)
    task = task_of(u1=dict(class_angles=angles, **JOINT))
    task.setup_ema()
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), 0.1)
    saver = CheckpointSaver(
        task.trainable_module,
        optimizer,
        task=task,
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(0, 1.0)
    path = str(tmp_path / 'last.pth.tar')
    saved = torch.load(path, weights_only=False)
    assert list(saved['task_state']) == ['u1.class_angles.angles']
    assert 'task_state_ema' not in saved
    # Any timm script reads the network out of it.
    plain = network()
    plain.load_state_dict(saved['state_dict'], strict=True)
    other = task_of()
    assert not torch.equal(
        other.u1.class_angles.angles, task.u1.class_angles.angles
    )
    other.load_checkpoint_state(saved['state_dict'], saved['task_state'])
    assert torch.equal(
        other.u1.class_angles.angles, task.u1.class_angles.angles
    )
    # A plain task's checkpoint leaves the angles as they were built.
    kept = other.u1.class_angles.angles.clone()
    other.load_checkpoint_state(saved['state_dict'], None)
    assert torch.equal(other.u1.class_angles.angles, kept)


def test_learned_planes_must_be_in_the_optimizer():
    task = task_of('swin', u1=timm_ranks.STATEFUL)
    images, labels = batch()
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), 0.1)
    task(images, labels)['loss'].backward()
    task(images, labels)  # accumulates, so nothing has stepped
    # Nor does a network loaded from a file, which changes its weights.
    state = {
        k: v.clone() for k, v in task.trainable_module.state_dict().items()
    }
    task.load_checkpoint_state(state, task.get_task_state())
    task(images, labels)
    task = task_of('swin', u1=timm_ranks.STATEFUL)
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), 0.1)
    task(images, labels)
    task.trainable_module.load_state_dict(state)
    task(images, labels)
    copy.deepcopy(task)(images, labels)
    for _ in range(2):
        task(images, labels)['loss'].backward()
        optimizer.step()
    with pytest.raises(ValueError, match='add_param_group'):
        task(images, labels)
    # What clears all gradients hides nothing.
    task = task_of('swin', u1=timm_ranks.STATEFUL)
    optimizer = torch.optim.SGD(task.trainable_module.parameters(), 0.1)
    for _ in range(2):
        task(images, labels)['loss'].backward()
        optimizer.step()
        task.zero_grad()
    with pytest.raises(ValueError, match='add_param_group'):
        task(images, labels)
    task = task_of('swin', u1=timm_ranks.STATEFUL)
    optimizer = timm_ranks.optimizer_of(task)
    rows = task.u1.neck.feature_planes[0].rows
    before = rows.clone()
    task(images, labels)['loss'].backward()
    task.trainable_module.load_state_dict(state)  # back, and no step
    for _ in range(2):
        task(images, labels)['loss'].backward()
        optimizer.step()
    assert not torch.equal(rows, before)
    clipped = list(task.get_clip_parameters(exclude_head=True))
    assert any(parameter is rows for parameter in clipped)
