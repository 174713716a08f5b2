"""A config whose types are classes means what its text form means."""

import numpy as np
from digit_runs import summaries
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import TRANSFORMS

from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.lab.cost import twins

LAZY = """
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.datasets import ResizeEdge
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ImageClassifier, ResNet, GlobalAveragePooling
from mmpretrain.models import LinearClsHead
from mmengine.model import PretrainedInit
from u1_plugin.lab.subsets import subset_dataset
from u1_plugin.mm.hooks.angle_stats_hook import AngleStatsHook
from u1_plugin.mm.symmetry_breaking import SymmetryBreaking

backbone = dict(
    type=ResNet, depth=18, base_channels=8, stem_channels=8,
    init_cfg=[dict(type=PretrainedInit, checkpoint='nowhere.pth')])
model = dict(
    type=ImageClassifier, backbone=backbone,
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=64))
data_preprocessor = dict(num_classes=10, mean=[127.0] * 3, std=[60.0] * 3)
test_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=subset_dataset, of=CustomDataset, shots=2,
        data_root={root!r}, data_prefix='test',
        pipeline=[dict(type=LoadImageFromFile),
                  dict(type=ResizeEdge, scale=16), dict(type=PackInputs)]))
test_cfg = dict()
test_evaluator = [dict(type=Accuracy), dict(type=SymmetryBreaking)]
custom_hooks = [dict(type=AngleStatsHook)]
default_scope = 'mmpretrain'
log_level = 'ERROR'
work_dir = {work!r}
"""


def test_a_config_whose_types_are_classes(digits, tmp_path):
    file = tmp_path / 'lazy.py'
    file.write_text(LAZY.format(root=str(digits), work=str(tmp_path / 'work')))
    network = load_network(
        str(file), seed=0, options={'model.type': 'U1ImageClassifier'}
    )
    assert type(network.model).__name__ == 'U1ImageClassifier'
    config = network.config
    assert [c.model.type for c in twins(config)] == [
        'ImageClassifier',
        'U1ImageClassifier',
    ]
    assert twins(Config.fromfile(file))[1].model.type == 'U1ImageClassifier'
    config.model.backbone.pop('init_cfg')
    runner = Runner.from_cfg(config)
    runner.test()
    found = summaries(runner)['angles_test_epoch_0']['sources']
    assert found['backbone/feature']['n'] == 20


def test_a_step_that_runs_first_may_be_a_class():
    from mmpretrain.datasets import ResizeEdge

    step = TRANSFORMS.build(
        dict(type='Corrupt', name='fog', severity=1, after=ResizeEdge, scale=40)
    )
    image = np.zeros((50, 60, 3), np.uint8)
    assert step(dict(img=image, sample_idx=0))['img'].shape == (40, 48, 3)
