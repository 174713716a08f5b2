"""Suites whose data is not at hand, run whole on a few images in its layout."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers import copied_suites
from test_data_sets import cub, flowers102, stanford_cars

SMALL = {
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 1,
    **{
        f'{part}_dataloader.{key}': value
        for part in ('train', 'val', 'test')
        for key, value in dict(
            batch_size=2, num_workers=0, persistent_workers=False
        ).items()
    },
}


def shortened(root: Path, name: str, folder: Path, **settings) -> Path:
    """The suite with two arms, one seed and one epoch on one process."""
    content = yaml.safe_load((root / f'configs/suites/{name}.yml').read_text())
    for entry in content['configs']:
        entry['set'] = {**entry.get('set', {}), **SMALL, **settings}
        entry.pop('without', None)
    # Of arms that are left out, and trainings in full.
    for part in ('primary', 'exploratory', 'anchors'):
        content.pop(part, None)
    content.update(seeds=1, processes=1, arms=['one-hot', 'u1-feature'])
    file = copied_suites(root, folder) / f'{name}.yml'
    file.write_text(yaml.safe_dump(content))
    return file


def run(root: Path, file: Path, folder: Path, environment: dict):
    command = [sys.executable, str(root / 'tools/benchmark.py'), str(file)]
    done = subprocess.run(
        [*command, '--out', 'out', '--workers', '1'],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return pd.read_csv(folder / 'out/results.csv')


def check(table: pd.DataFrame, configs: int) -> None:
    assert len(table) == 2 * configs == len(table.groupby(['config', 'arm']))
    assert table.test_top1.between(0, 100).all()
    for text in table.val_curve:
        assert [entry['epoch'] for entry in json.loads(text)] == [1]


@pytest.mark.slow
def test_finegrained(root, environment, tmp_path):
    for layout, name in (
        (cub, 'CUB_200_2011'),
        (stanford_cars, 'Stanford_Cars'),
        (flowers102, 'Flowers102'),
    ):
        (tmp_path / 'data' / name).mkdir(parents=True)
        layout(tmp_path / 'data' / name)
    download = {'model.backbone.init_cfg': None}
    file = shortened(root, 'finegrained', tmp_path, **download)
    check(run(root, file, tmp_path, environment), configs=3)


@pytest.mark.slow
def test_imagenet(root, environment, tmp_path):
    converter = root / 'tools/dataset_converters/imagenet_sample.py'
    command = [sys.executable, str(converter), 'data/imagenet', '--images', '2']
    (tmp_path / 'data').mkdir()
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    # Warm-up of more epochs than there are.
    file = shortened(root, 'imagenet', tmp_path, param_scheduler=[])
    check(run(root, file, tmp_path, environment), configs=3)
