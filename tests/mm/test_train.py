"""The real command lines train and test on real data."""

import os
import re
import sys

import pytest
import torch
from mmengine import Config
from mmpretrain import ImageClassificationInferencer
from training_tools import BASELINE, U1, load, losses, options

from u1_plugin.mm.launch import mmpretrain_tool


def test_train_and_test(root, command, workplace, tmp_path):
    command(
        'tools/train.py',
        root / BASELINE,
        '--work-dir',
        tmp_path / 'plain',
        *options(1),
    )
    output = command(
        'tools/train.py',
        root / U1,
        '--work-dir',
        tmp_path / 'zero',
        *options(1, 'model.u1.loss.loss_weight=0.0'),
    )
    assert len(losses(output)) == 34  # both losses of 17 steps are logged
    # Lambda = 0 is the one-hot twin: same weights, same data, bit for bit.
    plain = load(tmp_path / 'plain', 1)['state_dict']
    zero = load(tmp_path / 'zero', 1)['state_dict']
    assert set(zero) - set(plain) == {'u1.class_angles.angles'}
    assert all(torch.equal(zero[name], plain[name]) for name in plain)

    # The U(1) checkpoint in the plain config's model scores the same.
    scores = [
        re.search(
            r'accuracy/top1: (\S+)',
            command(
                'tools/test.py',
                root / config,
                tmp_path / 'zero/epoch_1.pth',
                '--work-dir',
                tmp_path / 'test',
            ),
        )[1]
        for config in (BASELINE, U1)
    ]
    assert scores[0] == scores[1]

    # So does MMPretrain's inferencer, from a file name.
    digit = next(workplace.glob('data/digits/test/7/*.png'))
    checkpoint = str(tmp_path / 'zero/epoch_1.pth')
    answers = [
        ImageClassificationInferencer(
            Config.fromfile(root / config), pretrained=checkpoint, device='cpu'
        )(str(digit))[0]
        for config in (BASELINE, U1)
    ]
    assert answers[0]['pred_label'] == answers[1]['pred_label']
    assert (answers[0]['pred_scores'] == answers[1]['pred_scores']).all()


def test_mixup_cutmix_and_label_smoothing(root, command, tmp_path):
    config = tmp_path / 'strong.py'
    config.write_text(f"""
_base_ = [{str(root / U1)!r}]
loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
augments = [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
model = dict(
    head=dict(loss=dict(loss, _delete_=True)),
    train_cfg=dict(augments=augments))
""")
    output = command(
        'tools/train.py', config, '--work-dir', tmp_path, *options(1)
    )
    values = losses(output)
    assert len(values) == 34 and all(0 < v < 10 for v in values)


@pytest.mark.skipif(torch.cuda.is_available(), reason='for CPUs')
def test_amp_on_the_cpu(root, command, tmp_path):
    output = command(
        'tools/train.py',
        root / U1,
        '--work-dir',
        tmp_path,
        '--amp',
        '--auto-scale-lr',
        *options(1, 'model.u1.neck.plane=joint'),
    )
    assert 'CPUAmpOptimWrapper' in output
    values = losses(output)
    assert len(values) == 34 and all(0 < v < 10 for v in values)


def test_two_processes_on_gloo(root, command, tmp_path):
    """Both ranks hold identical class angles and weights."""
    probe = tmp_path / 'probe.py'
    probe.write_text(f"""
_base_ = [{str(root / U1)!r}]
custom_imports = dict(imports=['u1_plugin', 'save_every_rank'])
custom_hooks = [dict(type='SaveEveryRank')]
""")
    (tmp_path / 'save_every_rank.py').write_text("""
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SaveEveryRank(Hook):
    def after_train(self, runner):
        state = runner.model.module.state_dict()
        torch.save(state, f'{runner.work_dir}/rank{get_rank()}.pth')
""")
    command(
        'tools/dist_train.sh',
        probe,
        2,
        '--work-dir',
        tmp_path / 'run',
        *options(1, 'model.u1.neck.feature_plane.center=running'),
        prefix=(
            'env',
            f'PYTHONPATH={root}:{tmp_path}',
            f'PORT={29500 + os.getpid() % 2000}',
            'bash',
        ),
    )
    first, second = (
        torch.load(tmp_path / f'run/rank{rank}.pth', weights_only=True)
        for rank in range(2)
    )
    assert 'u1.class_angles.angles' in first
    # BatchNorm's own statistics stay with each rank in MMEngine's DDP.
    shared = [
        name
        for name in first
        if 'bn' not in name and 'downsample.1' not in name
    ]
    assert 'u1.neck.feature_planes.0.running_mean' in shared
    for name in [*shared, *(n for n in first if n.endswith('weight'))]:
        assert torch.equal(first[name], second[name]), name

    output = command(
        'tools/dist_test.sh',
        root / U1,
        tmp_path / 'run/epoch_1.pth',
        2,
        '--work-dir',
        tmp_path / 'test',
        prefix=('env', f'PORT={31500 + os.getpid() % 2000}', 'bash'),
    )
    assert 'accuracy/top1' in output


def test_one_option_adds_the_branch_to_a_config_with_imports_of_its_own(
    root, command, tmp_path
):
    """No file at all, and what the base imports stays imported."""
    (tmp_path / 'my_folders.py').write_text("""
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS
DATASETS.register_module('MyFolders', module=CustomDataset)
""")
    config = tmp_path / 'mine.py'
    config.write_text(f"""
_base_ = [{str(root / BASELINE)!r}]
custom_imports = dict(imports=['my_folders'], allow_failed_imports=False)
train_dataloader = dict(dataset=dict(type='MyFolders'))
""")
    path = f'PYTHONPATH={root}:{tmp_path}'
    for tool, name in (
        ('tools/train.py', 'U1ImageClassifier'),
        (mmpretrain_tool('train.py'), 'u1_plugin.U1ImageClassifier'),
    ):
        output = command(
            tool,
            config,
            '--work-dir',
            tmp_path / name,
            *options(1, f'model.type={name}', 'model.u1.neck.plane=image'),
            prefix=('env', path, sys.executable),
        )
        assert 'automatically chosen: backbone' in output
        assert len(losses(output)) == 34


@pytest.mark.parametrize('name', [BASELINE, U1])
def test_a_config_that_inherits_the_installed_one_trains(
    name, command, workplace
):
    """MMEngine marks what it inherits with a scope that it must find."""
    mine = workplace / 'mine.py'
    mine.write_text(f"_base_ = ['{name.replace('configs/', 'u1_plugin::')}']\n")
    assert Config.fromfile(mine).train_dataloader.dataset._scope_ == 'u1_plugin'
    text = command('tools/train.py', mine, '--work-dir', 'mine', *options(1))
    assert re.search(r'Epoch\(val\).*accuracy/top1: [1-9]', text)
    assert 'Failed to' not in text and 'not installed' not in text
