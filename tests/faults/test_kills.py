"""Kills at random moments; `U1_KILLS` of them, 200 by default.

The table of counts goes to the folder `U1_FAULTS_OUT`, if that is set.
"""

import os
import random
from pathlib import Path
from typing import Iterator

import pytest
import tiny
from chains import KILLS, SEED, Counts, chain, reference

pytestmark = [pytest.mark.slow, pytest.mark.faults]

#: Parts of all kills, and kills of a chain.
SHARES = {
    'training': (0.22, 4),
    'training, workers and averages': (0.13, 4),
    'training, two ranks': (0.1, 3),
    'training without hooks': (0.1, 4),
    'bank': (0.12, 3),
    'bank, two ranks': (0.1, 3),
    'benchmark': (0.17, 5),
    'analysis': (0.06, 3),
}


@pytest.fixture(scope='module')
def counts() -> Iterator[Counts]:
    counts = Counts()
    yield counts
    print(f'\n{counts.markdown()}')
    out = os.environ.get('U1_FAULTS_OUT')
    if out:
        counts.write(Path(out))


def make(name: str, data: Path):
    if name == 'training':
        return tiny.training(data, name, 1, {})
    if name == 'training, workers and averages':
        options = {
            'custom_hooks': [dict(type='EMAHook', momentum=0.1)],
            'train_dataloader.num_workers': 2,
            'train_dataloader.persistent_workers': True,
            'default_hooks.checkpoint.save_best': 'accuracy/top1',
            'default_hooks.checkpoint.max_keep_ckpts': 2,
        }
        return tiny.training(data, name, 1, options)
    if name == 'training, two ranks':
        return tiny.training(data, name, 2, {})
    if name == 'training without hooks':
        return tiny.plain_training(data, name)
    if name == 'benchmark':
        define = {
            'one-hot': dict(role='baseline'),
            'u1': tiny.U1,
            'measured': tiny.MEASURED,
        }
        return tiny.benchmark(data, name, arms=list(define), define=define)
    if name == 'analysis':
        return tiny.analysis(data, name)
    return tiny.bank(data, name, 2 if 'two' in name else 1)


@pytest.mark.parametrize('name', SHARES)
def test_kills(name, data, tmp_path, counts):
    share, each = SHARES[name]
    left = max(1, round(share * KILLS))
    command = make(name, data)
    expected = reference(command, tmp_path / 'reference')
    rng = random.Random(f'{SEED},{name}')
    number = 0
    while left > 0:
        kills = min(each, left)
        folder = tmp_path / f'chain{number}'
        # On a busy machine some come too late, and are made up for.
        left -= chain(command, folder, expected, kills, rng, counts) or 1
        number += 1
