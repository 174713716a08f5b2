"""The hook that fills a memory: from what, when, and what it refuses."""

import copy
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS, TRANSFORMS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image
from torch.utils.data import DataLoader

import u1_plugin  # noqa: F401  (registers the components)
from u1_plugin.memory import MemoryBank

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')
TEST = [LOAD, dict(type='Resize', scale=16), PACK]
TRAIN = [LOAD, dict(type='RandomFlip', prob=1.0), PACK]


def pictures(root: Path, seed: int = 0) -> Path:
    """Three classes of three pictures each."""
    rng = np.random.default_rng(seed)
    for name in 'abc':
        (root / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f'{number}.png')
    return root


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / 'data')


def config_of(folder, **changes) -> Config:
    """A memory of the pictures, and the same pictures as queries."""
    data = dict(
        type='CustomDataset', data_root=str(folder), serialize_data=False
    )
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    test = dict(loader, dataset=dict(data, pipeline=TEST))
    config = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='ResNet_CIFAR',
                    depth=18,
                    base_channels=8,
                    stem_channels=8,
                    out_indices=(3,),
                ),
                head=dict(
                    type='MemoryBankHead', num_classes=3, in_channels=64, k=1
                ),
            ),
            data_preprocessor=dict(
                num_classes=3, mean=[127.0] * 3, std=[60.0] * 3, to_rgb=False
            ),
            train_dataloader=dict(
                loader, drop_last=True, dataset=dict(data, pipeline=TRAIN)
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_dataloader=test,
            val_evaluator=dict(type='Accuracy'),
            val_cfg=dict(),
            test_dataloader=test,
            test_evaluator=dict(type='Accuracy'),
            test_cfg=dict(),
            custom_hooks=[dict(type='MemoryBankHook')],
            log_level='ERROR',
        )
    )
    config.merge_from_dict(copy.deepcopy(changes))
    return config


def runner_of(config: Config, folder) -> Runner:
    config = copy.deepcopy(config)
    config.work_dir = str(Path(folder).parent / 'work')
    config.experiment_name = os.urandom(8).hex()
    torch.manual_seed(0)
    runner = Runner.from_cfg(config)
    torch.manual_seed(0)
    runner.model.init_weights()
    return runner


class Quick:
    """Model, config and log of a runner, which takes longer to make."""

    def __init__(self, config: Config) -> None:
        self.cfg = config
        self.logger = MMLogger.get_current_instance()
        self.hooks = [HOOKS.build(hook) for hook in config.custom_hooks]
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = dict(
                config.model, data_preprocessor=config.data_preprocessor
            )
            self.model = MODELS.build(model)
        torch.manual_seed(0)
        self.model.init_weights()

    def call_hook(self, name: str, **kwargs) -> None:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            for hook in self.hooks:
                getattr(hook, name)(self, **kwargs)


def filled(folder, changes=None) -> MemoryBank:
    """The bank that the hook makes or reads."""
    runner = Quick(config_of(folder, **(changes or {})))
    runner.call_hook('before_test')
    return runner.model.head.bank


def rows(bank: MemoryBank) -> torch.Tensor:
    return torch.cat(list(bank.blocks()))


STALE = {
    'mean': (
        {'data_preprocessor.mean': [0.0] * 3},
        'data_preprocessor',
    ),
    'rgb': ({'data_preprocessor.to_rgb': True}, 'data_preprocessor'),
    'strides': ({'model.backbone.strides': (1, 2, 1, 2)}, 'backbone_config'),
    'dilations': (
        {'model.backbone.dilations': (1, 1, 2, 1)},
        'backbone_config',
    ),
    'norm': (
        {'model.backbone.norm_cfg': dict(type='BN', eps=0.1)},
        'backbone_config',
    ),
    'pipeline': (
        {'test_dataloader.dataset.pipeline.1.scale': 12},
        'pipeline',
    ),
    'shots': ({'custom_hooks.0.shots': 2}, 'shots'),
    'mode': ({'model.head.mode': 'pooled'}, 'mode'),
    'orthant': ({'model.head.orthant': 'abs'}, 'orthant'),
    'keep': ({'model.head.keep': 2}, 'keep'),
    'coreset': ({'model.head.coreset': 0.5}, 'coreset'),
    'coreset sample': (
        {'model.head.coreset': 0.5, 'model.head.coreset_sample': 0.8},
        'coreset',
    ),
    'dtype': ({'model.head.dtype': 'float16'}, 'dtype'),
    'classes': ({'model.head.num_classes': 4}, 'num_classes'),
    'plane': (
        {'model.head.feature_plane': dict(basis='random')},
        'feature_plane',
    ),
    'plane seed': (
        {'model.head.feature_plane': dict(basis='learned', seed=3)},
        'feature_plane',
    ),
}


def test_a_file_serves_what_made_it_and_nothing_else(folder, tmp_path):
    file = tmp_path / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file)}
    first = filled(folder, own)
    before = file.read_bytes()
    again = filled(folder, own)
    assert again.identity == first.identity
    assert torch.equal(rows(again), rows(first))
    for name, (change, piece) in STALE.items():
        with pytest.raises(ValueError, match=piece) as caught:
            filled(folder, {**own, **change})
        assert 'bank.safetensors' in str(caught.value), name
    # Options of the vote do not decide what is stored.
    asked = {'model.head.k': 3, 'model.head.kappa': 2.0}
    filled(folder, {**own, **asked, 'model.head.plane': 'both'})
    assert file.read_bytes() == before


def test_other_images_under_the_same_names_are_noticed(folder, tmp_path):
    own = {'custom_hooks.0.file': str(tmp_path / 'bank.safetensors')}
    filled(folder, own)
    # The same files elsewhere are the same images.
    moved = tmp_path / 'moved'
    folder.rename(moved)
    filled(moved, own)
    one, two = moved / 'a/0.png', moved / 'a/1.png'
    (one_bytes, two_bytes) = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_bytes)
    with pytest.raises(ValueError, match='images'):
        filled(moved, own)
    two.write_bytes(one_bytes)  # both there, in the other order
    with pytest.raises(ValueError, match='images'):
        filled(moved, own)
    one.write_bytes(one_bytes)
    two.write_bytes(two_bytes)
    filled(moved, own)
    (moved / 'c/0.png').rename(moved / 'b/9.png')
    with pytest.raises(ValueError, match='labels'):
        filled(moved, own)


def test_other_weights_are_noticed(folder, tmp_path):
    changes = {'custom_hooks.0.file': str(tmp_path / 'bank.safetensors')}
    filled(folder, changes)
    runner = Quick(config_of(folder, **changes))
    with torch.no_grad():
        runner.model.backbone.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(ValueError, match='backbone_weights'):
        runner.call_hook('before_test')


@MODELS.register_module(force=True)
class MixedChannels(torch.nn.Conv2d):
    """A neck whose output is a map of the same shape."""

    def __init__(self) -> None:
        super().__init__(64, 64, 1)

    def forward(self, feats: tuple) -> tuple:
        return (super().forward(feats[-1]),)


def test_a_neck_makes_the_maps_of_memory_and_queries_alike(folder, tmp_path):
    """What the head is asked is what it is filled with."""
    file = tmp_path / 'bank.safetensors'
    neck = dict(type='MixedChannels')
    changes = {'model.neck': neck, 'custom_hooks.0.file': str(file)}
    runner = Quick(config_of(folder, **changes))
    runner.call_hook('before_test')
    model = runner.model
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = runner.hooks[0]._images(runner).build().dataset
    (batch,) = DataLoader(dataset, batch_size=9, collate_fn=default_collate)
    inputs = model.eval().data_preprocessor(batch, False)['inputs']
    (maps,) = model.extract_feat(inputs)
    expected = maps.relu().flatten(2).transpose(1, 2).flatten(0, 1).detach()
    torch.testing.assert_close(rows(model.head.bank), expected)
    changes.pop('model.neck')
    with pytest.raises(ValueError, match='neck'):
        filled(folder, changes)


@pytest.mark.parametrize('mmap', [False, True])
def test_a_file_of_the_same_run_is_written_anew(folder, tmp_path, mmap):
    file = tmp_path / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file), 'custom_hooks.0.mmap': mmap}
    runner = Quick(config_of(folder, **own))
    runner.call_hook('before_test')
    first = rows(runner.model.head.bank).clone()
    with torch.no_grad():
        runner.model.backbone.conv1.weight *= -1
    runner.call_hook('before_test')
    second = rows(runner.model.head.bank)
    assert not torch.equal(first, second)
    assert torch.equal(rows(MemoryBank.load(file)), second)
    # A file from before the run is not this run's to replace.
    other = Quick(config_of(folder, **own))
    with pytest.raises(ValueError, match='into another file'):
        other.call_hook('before_test')
    assert torch.equal(rows(MemoryBank.load(file)), second)


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


def checkpointed(folder, tmp_path) -> Path:
    changes = {'model.head.in_checkpoint': True}
    runner = Quick(config_of(folder, **changes))
    runner.call_hook('before_test')
    file = tmp_path / 'with_bank.pth'
    torch.save(dict(state_dict=runner.model.state_dict(), meta={}), file)
    return file


def test_a_bank_in_a_checkpoint_answers_for_its_weights_alone(folder, tmp_path):
    file = checkpointed(folder, tmp_path)
    config = config_of(folder, **{'model.head.in_checkpoint': True})
    config.load_from = str(file)
    runner = runner_of(config, folder)
    assert runner.test()['accuracy/top1'] == 100
    runner = runner_of(config, folder)
    runner.load_or_resume()
    other = runner.model.backbone.layer3[0].conv1.weight
    with torch.no_grad():
        other += 0.1
    with pytest.raises(ValueError, match='bank.*other backbone_weights'):
        runner.test()
    config.data_preprocessor.mean = [0.0] * 3
    with pytest.raises(ValueError, match='other data_preprocessor'):
        runner_of(config, folder).test()
    # A bank that the head's options do not fit is refused as it is loaded.
    config.model.head.orthant = 'abs'
    with pytest.raises(ValueError, match='head.orthant=abs.*relu'):
        runner_of(config, folder).test()


def test_a_checkpoint_answers_without_the_training_images(
    folder, tmp_path, caplog
):
    config = config_of(folder)
    config.load_from = str(checkpointed(folder, tmp_path))
    pictures(tmp_path / 'others', seed=1)
    config.train_dataloader.dataset.data_root = str(tmp_path / 'others')
    with pytest.raises(ValueError, match='other images'):
        runner_of(config, folder).test()
    config.train_dataloader.dataset.data_root = str(tmp_path / 'gone')
    runner = runner_of(config, folder)
    records: list = []
    runner.logger.addFilter(lambda record: not records.append(record))
    runner.logger.setLevel(logging.WARNING)
    assert runner.test()['accuracy/top1'] == 100
    assert any('not compared' in r.getMessage() for r in records)


def test_a_bank_of_unknown_make_is_refused(folder):
    runner = Quick(config_of(folder))
    head = runner.model.head
    head.fill((torch.rand(3, 64, 2, 2),), torch.arange(3), torch.arange(3))
    with pytest.raises(ValueError, match='unknown images.*set_bank'):
        runner.call_hook('before_test')
    head.set_bank(MemoryBank())
    runner.call_hook('before_test')
    assert len(head.bank) == 36


@TRANSFORMS.register_module(force=True)
class FailsAt:
    """Reads so many images, then raises or gives none."""

    seen = 0

    def __init__(self, count: int, silent: bool = False) -> None:
        self.count, self.silent = count, silent

    def __call__(self, results: dict):
        FailsAt.seen += 1
        if FailsAt.seen > self.count:
            if self.silent:
                return None
            raise OSError('truncated image')
        return results


@pytest.mark.parametrize('silent', [True, False])
def test_a_broken_image_leaves_no_memory(folder, tmp_path, silent):
    """Also where the data set would show another image in its place."""
    FailsAt.seen = 0
    file = tmp_path / 'bank.safetensors'
    config = config_of(folder, **{'custom_hooks.0.file': str(file)})
    step = dict(type='FailsAt', count=5, silent=silent)
    config.test_dataloader.dataset.pipeline.insert(1, step)
    runner = Quick(config)
    with pytest.raises(ValueError, match=r'image .*b/\d.png cannot be read'):
        runner.call_hook('before_test')
    assert FailsAt.seen > 5
    assert not len(runner.model.head.bank)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['data']
    FailsAt.seen = -100
    runner.call_hook('before_test')
    assert len(runner.model.head.bank) == 36 and file.exists()


def test_a_file_that_is_no_bank_is_left_alone(folder, tmp_path):
    file = tmp_path / 'notes.txt'
    file.write_text('mine')
    with pytest.raises(ValueError, match=r'notes\.txt'):
        filled(folder, {'custom_hooks.0.file': str(file)})
    assert file.read_text() == 'mine'


def test_a_place_that_cannot_be_written_is_named_before_the_work(
    folder, tmp_path
):
    FailsAt.seen = 0
    (tmp_path / 'taken').write_text('a file where a folder must be')
    file = tmp_path / 'taken' / 'bank.safetensors'
    config = config_of(folder, **{'custom_hooks.0.file': str(file)})
    config.test_dataloader.dataset.pipeline.insert(
        1, dict(type='FailsAt', count=0)
    )
    with pytest.raises((ValueError, OSError), match='MemoryBankHook.file'):
        Quick(config).call_hook('before_test')
    assert FailsAt.seen == 0


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(shots='3'), "MemoryBankHook.shots='3'"),
        (dict(shots=0), 'MemoryBankHook.shots=0'),
        (dict(shots=True), 'MemoryBankHook.shots=True'),
        (dict(shots=float('nan')), 'MemoryBankHook.shots=nan'),
        (dict(seed=-1), 'MemoryBankHook.seed=-1'),
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


@pytest.mark.parametrize(
    'options',
    [{}, {'coreset': 0.5, 'coreset_sample': 0.8, 'dtype': 'uint8'}],
    ids=str,
)
def test_a_bank_may_stay_in_its_file(folder, tmp_path, options):
    """Filled there, read again, and answering as one in memory."""
    head = {f'model.head.{name}': value for name, value in options.items()}
    file = tmp_path / 'new' / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file), 'custom_hooks.0.mmap': True}
    inputs, answers, banks = torch.rand(3, 3, 16, 16), [], []
    for change in (head, {**head, **own}, {**head, **own}):
        runner = Quick(config_of(folder, **change))
        runner.call_hook('before_test')
        banks.append(runner.model.head.bank)
        answers.append(runner.model.eval()(inputs))
    plain, first, again = banks
    assert not plain.mapped and first.mapped and again.mapped
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    for bank, answer in zip(banks, answers):
        assert bank.identity == plain.identity
        assert torch.equal(rows(bank), rows(plain))
        assert torch.equal(answer, answers[0])
    # With or without the option, it is the same file.
    own.pop('custom_hooks.0.mmap')
    assert torch.equal(rows(filled(folder, {**head, **own})), rows(plain))


def test_a_filling_on_disk_that_fails_leaves_nothing(folder, tmp_path):
    (folder / 'c/2.png').write_bytes(b'no picture')
    own = {
        'custom_hooks.0.file': str(tmp_path / 'bank'),
        'custom_hooks.0.mmap': True,
    }
    runner = Quick(config_of(folder, **own))
    with pytest.raises(ValueError, match='c/2.png'):
        runner.call_hook('before_test')
    assert not len(runner.model.head.bank)
    assert [f.name for f in tmp_path.iterdir()] == [folder.name]


def test_what_leaves_no_bank_in_a_file_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match='MemoryBankHook.file=None'):
        Quick(config_of(folder, **{'custom_hooks.0.mmap': True}))
    own = {
        'custom_hooks.0.file': str(tmp_path / 'bank'),
        'custom_hooks.0.mmap': True,
        'model.head.in_checkpoint': True,
    }
    with pytest.raises(ValueError, match='in_checkpoint=True.*mmap=True'):
        filled(folder, own)


@pytest.mark.slow
@pytest.mark.parametrize('mmap', [False, True])
def test_what_stops_one_rank_stops_all(root, environment, folder, mmap):
    """The images of the second rank alone are changed, then broken."""
    command = [
        *(sys.executable, '-m', 'torch.distributed.run'),
        *('--nproc_per_node=2', '--standalone'),
        *(str(root / 'tests/mm/memory_hook_ranks.py'), str(folder.parent)),
        *(['mmap'] if mmap else []),
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = ('filled', 'read', 'half', 'changed', 'broken')
    lines = done.stdout.splitlines()
    steps = [[s for s in lines if s.startswith(f'{n}: ')] for n in names]
    # Four of nine images, of four pixels each; a lone part is made again.
    for name, said in zip(names[:3], steps):
        assert said == [f'{name}: rank 0: 16 vectors', f'{name}: 20 vectors']
    changed, broken = steps[3:]
    assert 'another rank failed with ValueError' in changed[0]
    assert 'images' in changed[0] and 'images' in changed[1]
    assert 'c/2.png cannot be read' in broken[0] and 'c/2.png' in broken[1]
    assert not list(folder.parent.glob('bank*'))


@pytest.mark.parametrize('way', ['remove', 'keep', 'append'])
def test_a_changed_bank_is_not_taken_for_the_whole(folder, tmp_path, way):
    file = tmp_path / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file), 'model.head.coreset': 0.5}
    bank = filled(folder, own)
    assert torch.equal(rows(filled(folder, own)), rows(bank))
    if way == 'append':
        head = MODELS.build(config_of(folder, **own).model.head)
        head.set_bank(bank)
        maps = (torch.rand(1, 64, 2, 2),)
        head.fill(maps, torch.tensor([1]), torch.tensor([9]))
    else:
        getattr(bank, way)(dict(remove=[2], keep=range(5))[way])
    bank.save(file)
    with pytest.raises(ValueError, match=f"other changes .'{way}'"):
        filled(folder, own)
    # Whoever wants it gives it to a head.
    head = MODELS.build(config_of(folder, **own).model.head)
    head.set_bank(MemoryBank.load(file))
    assert head((torch.rand(2, 64, 2, 2),)).isfinite().all()
