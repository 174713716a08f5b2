"""One config per family through the real tools, at its own recipe."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import printed
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from mmengine.utils import digit_version
from mmpretrain.registry import MODELS

import u1_plugin  # noqa: F401  (registers the components)

FAMILIES = [
    'resnet/resnet18_8xb32_in1k_u1.py',
    'resnet/resnet50_8xb256-rsb-a3-100e_in1k_u1.py',
    'efficientnet/efficientnet-b0_8xb32_in1k_u1.py',
    'densenet/densenet121_4xb256_in1k_u1.py',
    'vgg/vgg16bn_8xb32_in1k_u1.py',
    'mobilenet_v2/mobilenet-v2_8xb32_in1k_u1.py',
    'swin_transformer/swin-tiny_16xb64_in1k_u1.py',
    'convnext/convnext-tiny_32xb128_in1k_u1.py',
    'vision_transformer/deit-small_4xb256_in1k_u1.py',
    'timm/timm-tf-efficientnet-lite0_8xb32_in1k_u1.py',
]
#: A CNN of each kind of map and a transformer; the others are for slow runs.
FAST = ('resnet18', 'mobilenet-v2', 'swin-tiny', 'timm')
STEPS = [
    name
    if Path(name).name.startswith(FAST)
    else pytest.param(name, marks=pytest.mark.slow)
    for name in FAMILIES
]
#: Small members of their families, for runs with two processes.
REDUCED = {
    'swin_transformer/swin-tiny_16xb64_in1k_u1.py': dict(
        embed_dims=24, depths=[2, 2, 2, 2], num_heads=[3, 6, 12, 24]
    ),
    'convnext/convnext-tiny_32xb128_in1k_u1.py': dict(
        depths=[1, 1, 2, 1], channels=[24, 48, 96, 192]
    ),
}

# A recipe of 300 epochs stays as it is: the first epoch alone is run.
STOP_HOOK = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class StopAfterOneEpoch(Hook):
    def after_train_epoch(self, runner):
        runner.train_loop.stop_training = True
"""


@pytest.fixture(scope='module')
def sample(root, environment, tmp_path_factory) -> Path:
    """A folder in ImageNet's layout: four classes, two images each."""
    out = tmp_path_factory.mktemp('data') / 'imagenet'
    converter = root / 'tools/dataset_converters/imagenet_sample.py'
    command = [sys.executable, str(converter), str(out), '--images', '2']
    subprocess.run(command, check=True, env=environment)
    return out


def short(config: Config, sample: Path, folder: Path) -> Path:
    """The config with small batches of the sample, and the stop hook."""
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.batch_size = 4
        loader.num_workers = 0
        loader.persistent_workers = False
        loader.dataset.data_root = str(sample)
    config.default_hooks.logger.interval = 1
    config.custom_imports = dict(imports=['stop_hook'])
    hooks = config.get('custom_hooks', [])
    config.custom_hooks = [*hooks, dict(type='StopAfterOneEpoch')]
    (folder / 'stop_hook.py').write_text(STOP_HOOK)
    file = folder / 'short.py'
    config.dump(file)
    return file


def reduce(config: Config, name: str) -> Config:
    config.model.backbone.arch = REDUCED[name]
    config.model.head.in_channels = 192
    return config


def run(command: list, folder: Path, environment: dict) -> str:
    python_path = f'{folder}:{environment["PYTHONPATH"]}'
    return printed(
        [sys.executable, *command],
        cwd=folder,
        env=dict(environment, PYTHONPATH=python_path),
        timeout=900,
    )


def logged(output: str, name: str) -> list:
    return [float(x) for x in re.findall(rf' {name}: (\S+)', output)]


@pytest.mark.parametrize('name', STEPS)
def test_a_few_steps_of_the_stock_recipe(
    name, root, sample, tmp_path, environment
):
    config = short(Config.fromfile(root / 'configs' / name), sample, tmp_path)
    output = run(
        [root / 'tools/train.py', config, '--work-dir', tmp_path / 'work'],
        tmp_path,
        environment,
    )
    values = logged(output, 'loss_u1')
    assert len(values) == 2 and all(0 < value < 0.2001 for value in values)
    assert 'accuracy/top1' in output
    assert (tmp_path / 'work/epoch_1.pth').exists()


def test_auto_scale_lr_and_accumulation_and_sync_bn(
    root, sample, tmp_path, environment
):
    config = Config.fromfile(root / 'configs' / FAMILIES[0])
    config.sync_bn = 'torch'
    config.optim_wrapper.accumulative_counts = 2
    config = short(config, sample, tmp_path)
    output = run(
        [
            *(root / 'tools/train.py', config, '--auto-scale-lr'),
            *('--work-dir', tmp_path / 'work'),
        ],
        tmp_path,
        environment,
    )
    # 0.1 for 256 images a step, here 4; `lr` of the log is that of a step.
    assert logged(output, 'lr')[0] == pytest.approx(0.1 * 4 / 256, rel=1e-3)
    assert len(logged(output, 'loss_u1')) == 2


@pytest.mark.parametrize('name', REDUCED)
def test_two_processes(name, root, sample, tmp_path, environment):
    config = reduce(Config.fromfile(root / 'configs' / name), name)
    config = short(config, sample, tmp_path)
    output = run(
        [
            *('-m', 'torch.distributed.run', '--nproc_per_node=2'),
            *('--standalone', root / 'tools/train.py'),
            *(config, '--launcher', 'pytorch'),
            *('--work-dir', tmp_path / 'work'),
        ],
        tmp_path,
        environment,
    )
    assert 'Distributed training: True' in output
    values = logged(output, 'loss_u1')
    assert len(values) == 1 and 0 < values[0] < 0.2001
    weights = CheckpointLoader.load_checkpoint(
        str(tmp_path / 'work/epoch_1.pth')
    )['state_dict']
    assert all(torch.isfinite(w).all() for w in weights.values())


FSDP = """
import sys
from functools import partial

import torch
from mmengine.config import Config
from mmengine.runner import FlexibleRunner
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

import u1_plugin

# MMEngine leaves a process group alone that exists already.
torch.distributed.init_process_group('gloo')
config = Config.fromfile(sys.argv[1])
wrapper = dict(
    type='MMFullyShardedDataParallel',
    use_orig_params=True,
    device_id=torch.device('cpu'),
    auto_wrap_policy=partial(
        size_based_auto_wrap_policy, min_num_params=20000
    ),
)
runner = FlexibleRunner(
    model=config.model,
    work_dir=sys.argv[2],
    data_preprocessor=config.data_preprocessor,
    train_dataloader=config.train_dataloader,
    train_cfg=config.train_cfg,
    optim_wrapper=config.optim_wrapper,
    param_scheduler=config.param_scheduler,
    default_hooks=config.default_hooks,
    # Without ConvNeXt's EMA: a sharded model cannot be copied.
    custom_hooks=[dict(type='StopAfterOneEpoch')],
    default_scope='mmpretrain',
    launcher='pytorch',
    strategy=dict(
        type='FSDPStrategy', model_wrapper=wrapper, state_dict_cfg='full'
    ),
)
runner.train()
print('trained', type(runner.strategy.model).__name__)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.9'),
    reason="gathering FSDP's state on the CPU crashes in torch 2.8",
)
def test_sharded_parameters(root, sample, tmp_path, environment):
    name = 'convnext/convnext-tiny_32xb128_in1k_u1.py'
    model_config = reduce(Config.fromfile(root / 'configs' / name), name)
    config = short(model_config, sample, tmp_path)
    (tmp_path / 'fsdp.py').write_text(FSDP)
    output = run(
        [
            *('-m', 'torch.distributed.run', '--nproc_per_node=2'),
            *('--standalone', tmp_path / 'fsdp.py', config, tmp_path / 'work'),
        ],
        tmp_path,
        environment,
    )
    assert 'trained MMFullyShardedDataParallel' in output
    values = logged(output, 'loss_u1')
    assert len(values) == 1 and 0 < values[0] < 0.2001
    model = MODELS.build(model_config.model)
    load_checkpoint(
        model, str(tmp_path / 'work/epoch_1.pth'), 'cpu', strict=True
    )
