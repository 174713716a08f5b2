"""The hook fills a memory from what the config trains on, when it should."""

import copy

import numpy as np
import pytest
import torch
from memory_runs import (
    PACK,
    TEST,
    TRAIN,
    Quick,
    config_of,
    filled,
    rows,
    runner_of,
)
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, TRANSFORMS
from mmpretrain.registry import DATASETS


def test_a_model_changed_in_the_same_run_is_filled_again(folder):
    runner = Quick(config_of(folder))
    runner.call_hook('before_test')
    bank = runner.model.head.bank
    runner.call_hook('before_test')
    assert runner.model.head.bank is bank
    with torch.no_grad():
        runner.model.backbone.conv1.weight *= -1
    runner.call_hook('before_test_iter', batch_idx=0)
    other = runner.model.head.bank
    assert other is not bank and not torch.equal(rows(other), rows(bank))
    # What a module does with its weights counts as well.
    runner.model.backbone.layer4[0].conv1.stride = (1, 1)
    runner.model.backbone.layer4[0].downsample[0].stride = (1, 1)
    runner.call_hook('before_val')
    assert len(runner.model.head.bank) == 4 * len(bank)


WRAPS = dict(
    RepeatDataset=lambda inner: dict(times=2, dataset=inner),
    ClassBalancedDataset=lambda inner: dict(oversample_thr=0.9, dataset=inner),
    ConcatDataset=lambda inner: dict(datasets=[inner]),
    KFoldDataset=lambda inner: dict(num_splits=9, fold=0, dataset=inner),
)


@pytest.mark.parametrize('name', WRAPS)
def test_wrapped_training_sets(folder, name):
    expected = filled(folder)
    config = config_of(folder)
    inner = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type=name, **WRAPS[name](inner))
    runner = Quick(config)
    runner.call_hook('before_test')
    bank = runner.model.head.bank
    first = 1 if name == 'KFoldDataset' else 0  # its fold leaves one out
    kept = expected.field('images') >= first
    torch.testing.assert_close(rows(bank), rows(expected)[kept])
    assert torch.equal(bank.field('labels'), expected.field('labels')[kept])


def test_test_time_augmentation(folder):
    """As ``tools/test.py --tta`` changes the config."""
    expected = filled(folder)
    config = config_of(folder)
    flips = [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)]
    augment = dict(type='TestTimeAug', transforms=[flips, [PACK]])
    config.test_dataloader.dataset.pipeline = [*TEST[:-1], augment]
    config.model = ConfigDict(type='AverageClsScoreTTA', module=config.model)
    runner = runner_of(config, folder)
    assert runner.test()['accuracy/top1'] == 100
    bank = runner.model.module.head.bank
    torch.testing.assert_close(rows(bank), rows(expected))


LAZY = """
from mmengine.dataset import DefaultSampler, RepeatDataset, default_collate
from mmpretrain.datasets import (CustomDataset, LoadImageFromFile, PackInputs,
                                 RandomFlip, Resize)
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier
from mmpretrain.models.backbones.resnet_cifar import ResNet_CIFAR
from u1_plugin.mm.hooks.memory_bank_hook import MemoryBankHook
from u1_plugin.mm.memory_bank_head import MemoryBankHead

model = dict(
    type=ImageClassifier,
    backbone=dict(type=ResNet_CIFAR, depth=18, base_channels=8,
                  stem_channels=8, out_indices=(3,)),
    head=dict(type=MemoryBankHead, num_classes=3, in_channels=64, k=1))
data_preprocessor = dict(type=ClsDataPreprocessor, num_classes=3,
                         mean=[127.0] * 3, std=[60.0] * 3, to_rgb=False)
test_pipeline = [dict(type=LoadImageFromFile), dict(type=PackInputs)]
loader = dict(batch_size=4, num_workers=0,
              sampler=dict(type=DefaultSampler, shuffle=False))
data = dict(type=CustomDataset, data_root={root!r})
train_dataloader = dict(loader, dataset=dict(
    type=RepeatDataset, times=2, dataset=dict(data, pipeline=[
        dict(type=LoadImageFromFile), dict(type=RandomFlip, prob=1.0),
        dict(type=PackInputs)])))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type=__import__('torch').optim.SGD, lr=1))
test_dataloader = dict(loader, dataset=dict(data, pipeline=[
    dict(type=LoadImageFromFile), dict(type=Resize, scale=16),
    dict(type=PackInputs)]))
test_evaluator = dict(type=Accuracy)
test_cfg = dict()
custom_hooks = [dict(type=MemoryBankHook, file={file!r})]
default_scope = 'mmpretrain'  # as MMPretrain's own
log_level = 'ERROR'
"""


def test_a_pure_python_config_means_the_same(folder, tmp_path):
    """Its file serves the text config of the same meaning."""
    file = str(tmp_path / 'bank.safetensors')
    lazy = tmp_path / 'lazy.py'
    text = LAZY.replace("__import__('torch').optim.SGD", 'SGD')
    text = 'from torch.optim import SGD\n' + text
    lazy.write_text(text.format(root=str(folder), file=file))
    runner = runner_of(Config.fromfile(lazy, lazy_import=True), folder)
    runner.call_hook('before_test')
    read = filled(folder, {'custom_hooks.0.file': file})
    assert torch.equal(rows(read), rows(runner.model.head.bank))
    assert len(read) == 9 * 4


@DATASETS.register_module(force=True)
class HeldInMemory(torch.utils.data.Dataset):
    """Arrays from the start, as CIFAR's: the pipeline loads no file."""

    metainfo = dict(classes=('a', 'b', 'c'))

    def __init__(self, value: int = 0, pipeline=()) -> None:
        rng = np.random.default_rng(0)
        shape = (9, 16, 16, 3)
        self.arrays = rng.integers(0, 255, shape, dtype=np.uint8)
        self.arrays[4, 0, 0, 0] = value
        self.steps = [TRANSFORMS.build(step) for step in pipeline]

    def __len__(self) -> int:
        return len(self.arrays)

    def get_data_info(self, index: int) -> dict:
        label = index // 3
        return dict(img=self.arrays[index], gt_label=label, sample_idx=index)

    def __getitem__(self, index: int) -> dict:
        item = self.get_data_info(index)
        for step in self.steps:
            item = step(item)
        return item


def test_images_in_memory(folder, tmp_path):
    """Under a test pipeline that reads files, and two shots a class."""
    held = dict(type='HeldInMemory', pipeline=TRAIN[1:])
    config = config_of(folder)
    config.train_dataloader.dataset = held
    config.custom_hooks[0].update(
        file=str(tmp_path / 'bank.safetensors'), shots=2
    )
    for _ in range(2):  # filled, then read
        runner = Quick(config)
        runner.call_hook('before_test')
        assert len(runner.model.head.bank) == 6 * 4
    config.custom_hooks[0].update(shots=3, file=str(tmp_path / 'all'))
    Quick(config).call_hook('before_test')
    config.train_dataloader.dataset.value = 255
    with pytest.raises(ValueError, match='images'):
        Quick(config).call_hook('before_test')


@pytest.mark.parametrize('first', [True, False])
def test_averaged_weights_fill_the_memory_that_they_ask(folder, first):
    config = config_of(folder)
    hooks = [*config.custom_hooks, dict(type='EMAHook')]
    config.custom_hooks = hooks if first else hooks[::-1]
    runner = runner_of(config, folder)
    (ema,) = (h for h in runner.hooks if type(h).__name__ == 'EMAHook')
    runner.call_hook('before_run')
    with torch.no_grad():
        for value in ema.ema_model.module.backbone.parameters():
            value.add_(0.01 * torch.randn_like(value))
    # Each picture is in the memory: with other weights some would be missed,
    # and none would be at distance 0.
    assert runner.test()['accuracy/top1'] == 100
    head, seen = runner.model.head, []
    model = copy.deepcopy(runner.model)
    model.backbone.load_state_dict(ema.ema_model.module.backbone.state_dict())
    for batch in runner.test_dataloader:
        data = model.data_preprocessor(batch, False)
        (feats,) = model.extract_feat(data['inputs'], stage='backbone')
        seen.append(feats.relu().flatten(2).transpose(1, 2).flatten(0, 1))
    expected = torch.cat(seen).detach()
    torch.testing.assert_close(rows(head.bank), expected)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(shots='3'), "MemoryBankHook.shots='3'"),
        (dict(shots=0), 'MemoryBankHook.shots=0'),
        (dict(shots=True), 'MemoryBankHook.shots=True'),
        (dict(shots=float('nan')), 'MemoryBankHook.shots=nan'),
        (dict(seed=-1), 'MemoryBankHook.seed=-1'),
        (dict(seed=3), 'MemoryBankHook.seed=3 draws shots'),
        (dict(dataloader=5), 'MemoryBankHook.dataloader=5'),
        (dict(dataloader=dict(batch_size=4)), 'MemoryBankHook.dataloader'),
        (dict(file=7), 'MemoryBankHook.file=7'),
    ],
)
def test_bad_options_are_refused_when_built(options, words):
    with pytest.raises(ValueError) as caught:
        HOOKS.build(dict(type='MemoryBankHook', **options))
    assert words in str(caught.value)


def test_what_is_missing_is_named(folder):
    config = config_of(folder)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        config[key] = None
    with pytest.raises(ValueError, match='no train_dataloader.*dataloader='):
        Quick(config).call_hook('before_test')
    config = config_of(folder)
    config.custom_hooks = [dict(type='MemoryBankHook', shots=4)]
    with pytest.raises(ValueError, match='shots=4.*3'):
        Quick(config).call_hook('before_test')
    config = config_of(folder)
    config.model.head = dict(type='ClsHead')
    with pytest.raises(TypeError, match='head is ClsHead'):
        Quick(config).call_hook('before_test')
    config = config_of(folder)
    config.model.head.num_classes = 2
    with pytest.raises(ValueError, match='num_classes=2'):
        Quick(config).call_hook('before_test')


def test_the_val_loader_stands_in_for_a_missing_test_loader(folder):
    config = config_of(folder)
    for key in ('test_dataloader', 'test_cfg', 'test_evaluator'):
        config[key] = None
    runner = Quick(config)
    runner.call_hook('before_val')
    torch.testing.assert_close(
        rows(runner.model.head.bank), rows(filled(folder))
    )


def test_a_hook_of_its_own_dataloader(folder):
    """Repeats count once there, too; the config trains nothing."""
    config = config_of(folder)
    loader = copy.deepcopy(config.test_dataloader)
    loader.dataset = dict(type='RepeatDataset', times=3, dataset=loader.dataset)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        config[key] = None
    config.custom_hooks = [dict(type='MemoryBankHook', dataloader=loader)]
    runner = Quick(config)
    runner.call_hook('before_test')
    torch.testing.assert_close(
        rows(runner.model.head.bank), rows(filled(folder))
    )
