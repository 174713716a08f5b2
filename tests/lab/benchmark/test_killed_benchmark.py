"""A benchmark that was killed goes on, and keeps the runs it has."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import copied_suites
from small_suites import ARMS, GOOD

from u1_plugin.lab.benchmark.expand import expand
from u1_plugin.lab.benchmark.results import read_plan, read_results
from u1_plugin.lab.benchmark.suite import load_suite
from u1_plugin.lab.benchmark.table import (
    PairingError,
    check_pairs,
    write_plan,
    write_table,
)


@pytest.fixture(scope='module')
def finished(root, environment, tmp_path_factory) -> Path:
    """A suite whose benchmark was killed after its first run and went on."""
    folder = tmp_path_factory.mktemp('suite')
    file = copied_suites(root, folder) / 'mini.yml'
    file.write_text(yaml.safe_dump(GOOD))
    out = folder / 'out'
    command = [
        *(sys.executable, str(root / 'tools/benchmark.py'), str(file)),
        *('--out', str(out), '--workers', '1'),
    ]

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process = start()
    while not (out / 'results.csv').exists():  # written after each run
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    records = list(out.rglob('run_record.json'))
    before = {r: (r.read_bytes(), r.stat().st_mtime_ns) for r in records}
    process = start()
    printed, _ = process.communicate()
    assert process.returncode == 0, printed[-3000:]
    total = len(ARMS) * 2 + 1
    assert f'mini: {total} runs, {len(before)} of them finished' in printed
    assert f'[{total}/{total}]' in printed and 'eta 0:00:00' in printed
    for record, (content, changed) in before.items():
        assert record.read_bytes() == content
        assert record.stat().st_mtime_ns == changed
    return out


def test_a_killed_benchmark_goes_on(finished):
    table = pd.read_csv(finished / 'results.csv')
    assert len(table) == len(ARMS) * 2 + 1
    assert set(table.arm) == {*ARMS, 'lambda-1'}
    assert table.run_hash.is_unique
    tested = table[table.role != 'ablation']
    assert tested.test_top1.between(0, 100).all()
    assert table[table.role == 'ablation'].test_top1.isna().all()
    assert (table.wall_s > 0).all() and (table.peak_rss_mib > 100).all()
    for row in table.itertuples():
        curve = json.loads(row.val_curve)
        assert [point['epoch'] for point in curve] == [1, 2]
        assert 'torch' in json.loads(row.versions)


def test_arms_of_a_seed_are_pairs_and_seeds_differ(finished):
    table = pd.read_csv(finished / 'results.csv')
    check_pairs(table)
    pairs = table.groupby('seed')
    for column in ('initial_backbone', 'initial_head_fc', 'order'):
        assert (pairs[column].nunique() == 1).all()
        assert table[column].nunique() == 2
    assert (table.draws == 'seeded by sample').all()
    for column, value in (('order', 'other'), ('draws', None)):
        broken = table.copy()
        broken.loc[0, column] = value
        with pytest.raises(PairingError, match=f'{column} differs between'):
            check_pairs(broken)
    check_pairs(table.drop(columns='draws'))  # of an earlier version


def test_zero_weight_is_one_hot_and_the_others_are_not(finished):
    folder = finished / 'resnet18-narrow_1xb64_digits'

    def outputs(arm, seed):
        with np.load(folder / arm / f'seed{seed}/test_outputs.npz') as content:
            return content['logits'], content['labels']

    for seed in (0, 1):
        plain, labels = outputs('one-hot', seed)
        assert plain.shape == (40, 10) and labels.shape == (40,)
        for arm in ARMS[1:]:
            logits, same = outputs(arm, seed)
            assert np.array_equal(same, labels)
            assert np.array_equal(logits, plain) == (arm == 'u1-zero')


def test_top1_is_that_of_the_saved_logits(finished):
    table = pd.read_csv(finished / 'results.csv')
    for row in table[table.role != 'ablation'].itertuples():
        with np.load(finished / row.folder / 'test_outputs.npz') as content:
            logits, labels = content['logits'], content['labels']
        expected = 100 * (logits.argmax(1) == labels).mean()
        assert row.test_top1 == pytest.approx(expected)


def test_measured_angles_are_those_of_the_other_seed(finished):
    folder = finished / 'resnet18-narrow_1xb64_digits'
    angles = json.loads(
        (folder / 'one-hot/seed1/class_angles.json').read_text()
    )
    config = (folder / 'u1-measured/seed0/config.py').read_text()
    assert 'one-hot/seed1/class_angles.json' in config
    assert len(angles['class_angles']) == 10


def test_other_settings_are_refused(finished, root, tmp_path):
    """Nothing of the finished runs is overwritten or mixed up."""
    file = copied_suites(root, tmp_path) / 'mini.yml'
    changed = dict(
        GOOD,
        define={
            'one-hot': dict(
                role='baseline',
                set=dict(optim_wrapper=dict(optimizer=dict(lr=0.01))),
            )
        },
    )
    file.write_text(yaml.safe_dump(changed))
    runs = expand(load_suite(file), finished)
    with pytest.raises(ValueError, match='--out: .* a run of other settings'):
        runs[0].record()


def test_what_no_config_holds_is_checked_as_well(finished, root, tmp_path):
    """Processes, and whose class angles a run took."""
    file = copied_suites(root, tmp_path) / 'mini.yml'
    file.write_text(yaml.safe_dump(dict(GOOD, processes=2)))
    runs = expand(load_suite(file), finished)
    with pytest.raises(ValueError, match='by 1 processes, not 2'):
        runs[0].record()
    file.write_text(yaml.safe_dump(GOOD))
    runs = expand(load_suite(file), finished)
    measured = next(run for run in runs if run.arm == 'u1-measured')
    assert measured.record()['identity']['measured_from'] == 'one-hot/seed1'
    other = measured._replace(needs=finished / 'one-hot/seed5')
    with pytest.raises(
        ValueError, match='from one-hot/seed1, not one-hot/seed5'
    ):
        other.record()
    file = tmp_path / 'angles.json'
    file.write_text('{}')
    named = measured._replace(values=dict(measured.values, file=str(file)))
    identity = measured.record()['identity']
    angles = 'one-hot/seed1/class_angles.json'
    images = [f'data/digits/{split}' for split in ('test', 'train', 'val')]
    assert sorted(identity['files']) == [*images, angles]
    digests = dict(identity['files'], **{str(file): 'another'})
    with pytest.raises(ValueError, match=r"before '.*angles.json' changed"):
        named._check_environment(dict(identity=dict(identity, files=digests)))
    # The other run's angles as well, which stand in no suite.
    digests = dict(measured.files, **{angles: 'another'})
    with pytest.raises(ValueError, match=f"before '{angles}' changed"):
        measured._check_environment(dict(identity=dict(files=digests)))
    wanted = runs[-1]._replace(measure=True)
    with pytest.raises(ValueError, match='before another arm wanted'):
        wanted.record()


def test_the_plan_names_every_run(finished):
    table = pd.read_csv(finished / 'results.csv')
    plan = read_plan(finished, table)
    keys = ['config', 'arm', 'role', 'seed']
    assert plan.equals(table[keys]) and (finished / 'planned.csv').is_file()
    with pytest.raises(ValueError, match='no results.csv'):
        read_results(finished / 'nowhere')


def test_a_finished_run_that_the_suite_drops_stays_planned(
    finished, root, tmp_path
):
    """A control that was not beaten must not vanish with its entry."""
    file = copied_suites(root, tmp_path) / 'mini.yml'
    file.write_text(yaml.safe_dump(GOOD))
    out = shutil.copytree(finished, tmp_path / 'out')
    runs = expand(load_suite(file), out)
    table = pd.read_csv(out / 'results.csv')
    keys = [(run.config, run.arm, run.role, run.seed) for run in runs]
    runs[3].record_file.unlink()  # one of several is enough
    for _ in range(2):
        assert write_plan(runs[:3], out) == len(runs) - 3
        plan = read_plan(out, table).itertuples(index=False, name=None)
        assert sorted(plan) == sorted(keys)
    made = pd.read_csv(write_table(runs, out))
    assert len(made) == len(runs) - 1 and (made.processes == 1).all()
    assert made.data_hash.nunique() == 1
    for run in runs[4:]:
        run.record_file.unlink()  # nothing was measured
    assert write_plan(runs[:3], out) == 0
    assert len(read_plan(out, table)) == 3
    assert write_plan(runs, out) == 0


def test_a_record_that_lacks_something_is_none(finished, root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    file.write_text(yaml.safe_dump(GOOD))
    out = tmp_path / 'out'
    shutil.copytree(finished, out)
    run = expand(load_suite(file), out)[1]
    record = run.record()
    assert record is not None
    text = run.record_file.read_text()
    for lack in (
        text[:-20],
        '[]',
        json.dumps(dict(record, val=record['val'][:-1])),
        json.dumps(dict(record, test={})),
        json.dumps({k: v for k, v in record.items() if k != 'order'}),
        json.dumps(dict(record, cpu_s=None)),
        json.dumps(dict(record, peak_rss_mib=[])),
        json.dumps(dict(record, initial=dict(backbone='a'))),
        json.dumps(dict(record, val=[{}])),
        json.dumps(dict(record, test={'accuracy/top1': 'a'})),
        json.dumps(dict(record, versions=None)),
        json.dumps(dict(record, identity=1)),
        '[' * 100_000,
    ):
        run.record_file.write_text(lack)
        assert run.record() is None
    run.record_file.write_text(text)
    (run.folder / 'test_outputs.npz').write_bytes(b'PK')
    assert run.record() is None
    run.record_file.unlink()
    other = dict(identity=dict(record['identity'], run_hash='another'))
    part = run.folder / 'run_record.part.json'
    part.write_text(json.dumps(other))
    with pytest.raises(ValueError, match='a run of other settings'):
        run.record()
