"""A few digits, and the config of the U(1) twin on them."""

from pathlib import Path

import pytest
from digit_pictures import write_digits
from digit_runs import COUNTS
from mmengine.config import Config


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> Path:
    """A few digits of every class and split, as class folders."""
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder, **COUNTS)
    return folder


@pytest.fixture
def config(root, digits, tmp_path) -> Config:
    """The digits config of the U(1) twin on these pictures, quiet."""
    config = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'
    )
    for split in COUNTS:
        config[f'{split}_dataloader'].dataset.data_root = str(digits)
        config[f'{split}_dataloader'].batch_size = 8
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    config.param_scheduler = None
    config.update(log_level='ERROR', work_dir=str(tmp_path / 'work'))
    return config
