"""The real command lines, as subprocesses, on real data."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.runner.checkpoint import CheckpointLoader
from mmpretrain import ImageClassificationInferencer

from u1_plugin.mm.launch import (
    CPUAmpOptimWrapper,
    mmpretrain_tool,
    with_options,
)

BASELINE = 'configs/digits/resnet18-narrow_1xb64_digits.py'
U1 = 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'


@pytest.fixture(scope='module')
def workplace(root, environment, tmp_path_factory) -> Path:
    """A folder with the digits where the configs look for them."""
    folder = tmp_path_factory.mktemp('workplace')
    converter = root / 'tools/dataset_converters/digits.py'
    subprocess.run([sys.executable, str(converter)], cwd=folder, check=True)
    return folder


@pytest.fixture
def command(root, workplace, environment):
    """Runs a tool to its end and returns what it printed."""

    def run(*args, prefix=(sys.executable,)) -> str:
        tool = [str(root / args[0]), *map(str, args[1:])]
        done = subprocess.run(
            [*prefix, *tool],
            cwd=workplace,
            env=dict(environment, PYTHON=sys.executable),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return run


def options(epochs: int, *more: str) -> list:
    return [
        '--cfg-options',
        f'train_cfg.max_epochs={epochs}',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=1',
        *more,
    ]


def load(folder: Path, epoch: int) -> dict:
    # MMEngine's own loader: forks of it manage torch's allow-list themselves.
    return CheckpointLoader.load_checkpoint(str(folder / f'epoch_{epoch}.pth'))


def losses(output: str) -> list:
    found = re.findall(r'loss: (\S+)  loss_u1: (\S+)', output)
    return [float(value) for pair in found for value in pair]


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


def test_the_stock_tool_trains_and_resumes(root, command, tmp_path):
    """README's config needs nothing of the plugin but the dotted name."""
    config = tmp_path / 'mine.py'
    config.write_text(f"""
_base_ = [{str(root / BASELINE)!r}]
model = dict(type='u1_plugin.U1ImageClassifier')
""")
    stock = mmpretrain_tool('train.py')
    arguments = [stock, config, '--work-dir', tmp_path / 'run']
    assert len(losses(command(*arguments, *options(1)))) == 34
    output = command(*arguments, '--resume', *options(2))
    assert 'resumed epoch: 1, iter: 17' in output


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


def test_slurm_command_line(root, environment, tmp_path):
    """No cluster here: `srun` only shows what it would start."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    shown = subprocess.check_output(
        ['bash', str(root / 'tools/slurm_train.sh'), 'gpu', 'job', 'a b.py']
        + ['work', '--amp', '--cfg-options', 'x="[1, 2]"'],
        env=dict(
            environment,
            PATH=f'{tmp_path}:{environment["PATH"]}',
            GPUS='16',
            SRUN_ARGS='--exclude=n1 --mem=8G',
        ),
        text=True,
    ).splitlines()
    assert {'--partition=gpu', '--ntasks=16', '--mem=8G'} <= set(shown)
    tool = shown.index(str(root / 'tools/train.py'))
    assert shown[tool + 1 :] == [
        'a b.py',
        '--work-dir=work',
        '--launcher=slurm',
        '--amp',
        '--cfg-options',
        'x="[1, 2]"',
    ]


def wait_for(log: Path, pattern: str, process, timeout: float = 300) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        if re.search(pattern, log.read_text()):
            return
        time.sleep(0.05)
    raise AssertionError(f'no {pattern!r} in\n{log.read_text()[-3000:]}')


def test_resume_after_kill_9(root, command, workplace, environment, tmp_path):
    whole = tmp_path / 'whole'
    arguments = ['tools/train.py', root / U1, '--work-dir']
    command(*arguments, whole, *options(3))

    cut, log = tmp_path / 'cut', tmp_path / 'log'
    with log.open('w') as file:
        process = subprocess.Popen(
            [
                sys.executable,
                str(root / arguments[0]),
                str(root / U1),
                '--work-dir',
                str(cut),
                *options(3),
            ],
            cwd=workplace,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(log, r'Epoch\(train\)\s+\[2\]\[ ?5/17\]', process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert not (cut / 'epoch_2.pth').exists()

    # Other angles in the config: those of the checkpoint must win.
    output = command(
        *arguments,
        cut,
        '--resume',
        *options(3, 'model.u1.class_angles.seed=99'),
    )
    assert 'resumed epoch: 1, iter: 17' in output
    assert re.search(r'Epoch\(train\)\s+\[2\]\[ 1/17\]', output)
    assert not re.search(r'Epoch\(train\)\s+\[1\]', output)
    expected, resumed = load(whole, 3), load(cut, 3)
    assert resumed['meta']['epoch'] == 3 and resumed['meta']['iter'] == 51
    name = 'u1.class_angles.angles'
    assert torch.equal(
        resumed['state_dict'][name], expected['state_dict'][name]
    )
    assert resumed['param_schedulers'] == expected['param_schedulers']
    state = resumed['optimizer']['state']
    assert state and all('momentum_buffer' in s for s in state.values())


@pytest.mark.parametrize(
    'argv, expected',
    [
        (['c.py'], ['c.py', '--cfg-options', 'a=1']),
        (
            ['c.py', '--cfg-options', 'b=2', '--amp'],
            ['c.py', '--cfg-options', 'a=1', 'b=2', '--amp'],
        ),
    ],
)
def test_options_of_the_user_come_last_and_win(argv, expected):
    assert with_options(argv, ['a=1']) == expected


def test_cpu_amp_computes_in_bfloat16():
    model = torch.nn.Linear(3, 2)
    wrapper = CPUAmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1)
    )
    with wrapper.optim_context(model):
        assert model(torch.rand(4, 3)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype='float16'.*bfloat16"):
        CPUAmpOptimWrapper(dtype='float16', optimizer=wrapper.optimizer)


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
