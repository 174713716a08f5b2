"""Heads of other kinds through the training tool, on scanned digits."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import printed

ARCFACE = """
_base_ = {base!r}
model = dict(
    type='u1_plugin.U1ImageClassifier',
    head=dict(
        _delete_=True,
        type='ArcFaceClsHead',
        num_classes=10,
        in_channels=128,
        scale=16.0,
    ),
)
train_cfg = dict(max_epochs=5)
param_scheduler = dict(total_steps=5)
"""
MULTI_LABEL = """
_base_ = {base!r}
model = dict(
    type='u1_plugin.U1ImageClassifier',
    head=dict(
        _delete_=True,
        type='MultiLabelLinearClsHead',
        num_classes=12,
        in_channels=128,
    ),
)
data_preprocessor = dict(num_classes=12, to_onehot=True)
dataset = dict(
    _delete_=True, type='MultiLabelDataset', data_root='data/digits'
)
train_dataloader = dict(
    dataset=dict(
        ann_file='train.json', pipeline=_base_.train_pipeline, **dataset
    )
)
val_dataloader = dict(
    dataset=dict(ann_file='val.json', pipeline=_base_.test_pipeline, **dataset)
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='AveragePrecision')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=5)
param_scheduler = dict(total_steps=5)
"""


def annotate(digits: Path) -> None:
    """Two labels an image, its digit and its parity, and none for zeros."""
    names = [*map(str, range(10)), 'even', 'odd']
    for split in ('train', 'val'):
        data_list = [
            dict(
                img_path=str(file.relative_to(digits)),
                gt_label=[int(folder.name), 10 + int(folder.name) % 2]
                if folder.name != '0'
                else [],
            )
            for folder in sorted((digits / split).iterdir())
            for file in sorted(folder.iterdir())
        ]
        content = dict(metainfo=dict(classes=names), data_list=data_list)
        (digits / f'{split}.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def folder(root, environment, tmp_path_factory) -> Path:
    """A folder with scikit-learn's digits under ``data/digits``."""
    folder = tmp_path_factory.mktemp('work')
    converter = root / 'tools/dataset_converters/digits.py'
    command = [sys.executable, str(converter), 'data/digits']
    subprocess.run(command, cwd=folder, check=True, env=environment)
    annotate(folder / 'data/digits')
    return folder


@pytest.mark.parametrize(
    'text, metric',
    [(ARCFACE, 'accuracy/top1'), (MULTI_LABEL, 'multi-label/mAP')],
)
def test_through_the_training_tool(text, metric, root, folder, environment):
    base = root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    config = folder / 'config.py'
    config.write_text(text.format(base=str(base)))
    command = [sys.executable, root / 'tools/train.py', config]
    output = printed(command, cwd=folder, env=environment, timeout=600)
    losses = [float(x) for x in re.findall(r' loss_u1: (\S+)', output)]
    assert losses and all(0 < loss < 0.2 for loss in losses)
    value = float(re.findall(rf'{metric}: (\S+)', output)[-1])
    assert value > 30  # by chance: 10 % and about 17 %
