"""A benchmark's results, made up: the columns of a real ``results.csv``."""

import json
import math
from pathlib import Path
from typing import Dict

import numpy as np
import pandas as pd

ROLES = {
    'one-hot': 'baseline',
    'u1-feature': 'u1',
    'u1-image': 'u1',
    'label-smoothing': 'rival',
    'u1-permuted': 'control',
    'u1-zero': 'control',
    'lambda-0.3': 'ablation',
    'lambda-1': 'ablation',
    'label-smoothing+value-0.2': 'ablation',
}


def make_table(
    gains: Dict[str, float], seeds: int = 10, sd: float = 0.1
) -> pd.DataFrame:
    """Runs whose test top-1 is the pair's level, a gain, and noise.

    Args:
        gains (Dict[str, float]): By arm, in points; arms left out have 0.
        seeds (int): Of every arm.
        sd (float): Of the noise.
    """
    rng = np.random.default_rng(0)
    levels = rng.normal(90, 1, seeds)
    rows = []
    for arm, role in ROLES.items():
        for seed in range(seeds):
            noise = 0 if arm == 'one-hot' else rng.normal(0, sd)
            top1 = levels[seed] + gains.get(arm, 0) + noise
            curve = [
                {'epoch': e, 'accuracy/top1': top1 - 20 / e}
                for e in (2, 4, 6, 8)
            ]
            rows.append(
                dict(
                    suite='made_up',
                    config='tiny_digits',
                    arm=arm,
                    role=role,
                    seed=seed,
                    epochs=8,
                    val_top1=top1 - 2.5,
                    val_top1_best=top1 - 2.5,
                    test_top1=None if role == 'ablation' else top1,
                    test_top5=None,
                    wall_s=20.0,
                    cpu_s=10.0 + (role != 'baseline'),
                    peak_rss_mib=500.0,
                    peak_cuda_mib=None,
                    parameters=1000,
                    initial_backbone=f'weights{seed}',
                    initial_head_fc=f'head{seed}',
                    order=f'order{seed}',
                    run_hash=f'{arm}{seed}',
                    config_hash=arm,
                    hardware='a made-up machine',
                    versions=json.dumps(dict(torch='2.15.0')),
                    val_curve=json.dumps(curve),
                    folder=f'tiny_digits/{arm}/seed{seed}',
                )
            )
    return pd.DataFrame(rows)


def write_results(folder: Path, table: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / 'results.csv', index=False)
    return folder


def main_table(*args, **kwargs) -> pd.DataFrame:
    table = make_table(*args, **kwargs)
    return table[table.role != 'ablation']


def make_behaviour(table: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for run in main_only(table).itertuples():
        worse = run.arm == 'u1-feature'
        for quantity, value in (
            ('calibration error (ECE), %', 2 + 3 * worse + run.seed / 10),
            ('epochs to 95 %', 4.0 + run.seed % 2),
            ('never reached', math.nan),
        ):
            noise = 0.01 * rng.normal()
            rows.append(
                dict(
                    config=run.config,
                    arm=run.arm,
                    role=run.role,
                    seed=run.seed,
                    quantity=quantity,
                    detail='',
                    value=value + noise,
                )
            )
    return pd.DataFrame(rows)


def main_only(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.role != 'ablation']
