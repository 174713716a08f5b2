"""Suites: what is refused, what is trained, and what survives kill -9."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import copied_suites
from mmengine.config import Config
from mmpretrain.registry import MODELS

from u1_plugin.lab.benchmark import pool
from u1_plugin.lab.benchmark.expand import expand
from u1_plugin.lab.benchmark.folder import check_folder, locked
from u1_plugin.lab.benchmark.plan import check_plan
from u1_plugin.lab.benchmark.pool import make_slots
from u1_plugin.lab.benchmark.suite import load_suite
from u1_plugin.lab.benchmark.table import (
    PairingError,
    check_pairs,
    read_plan,
    read_results,
)
from u1_plugin.lab.outputs import top_accuracies

SUITES = [
    'recipe',
    'recipe_swin',
    'recipe_wide',
    'weights',
    'pilot',
    'glyphs62',
    'glyphs62_swin',
    'glyphsk',
    'emoji58',
    'clipart',
    'quick',
    'mnist10k',
    'confirm',
    'scarce',
    'scarce58',
    'wide',
    'tuning',
    'cifar',
    'finegrained',
    'imagenet',
]
CONFIG = 'digits/resnet18-narrow_1xb64_digits.py'
AUXILIARY = (
    'center-loss',
    'hyperspherical',
    'random-plane',
    'orthogonal-projection',
    'superclasses',
    'sphere-2',
    'sphere-3',
    'sphere-8',
    'sphere-simplex',
)
#: Of the digits config, for a pure-Python one.
CLASSES = {
    'ImageClassifier': 'mmpretrain.models',
    'ResNet_CIFAR': 'mmpretrain.models',
    'GlobalAveragePooling': 'mmpretrain.models',
    'LinearClsHead': 'mmpretrain.models',
    'CrossEntropyLoss': 'mmpretrain.models',
    'CustomDataset': 'mmpretrain.datasets',
    'LoadImageFromFile': 'mmpretrain.datasets',
    'PackInputs': 'mmpretrain.datasets',
    'DefaultSampler': 'mmengine.dataset',
    'CheckpointHook': 'mmengine.hooks',
    'SGD': 'torch.optim',
    'OneCycleLR': 'mmengine.optim',
    'Accuracy': 'mmpretrain.evaluation',
}
ARMS = ['one-hot', 'u1-feature', 'u1-measured', 'u1-zero', 'arcface']


@pytest.mark.slow
@pytest.mark.parametrize('name', SUITES)
def test_every_arm_of_every_suite_builds(name, root):
    suite = load_suite(root / f'configs/suites/{name}.yml')
    runs = expand(suite, Path('out'), root / 'configs')
    seeds = [
        *((arm.name, suite.seeds) for arm in suite.arms),
        *((arm.name, suite.exploratory_seeds) for arm in suite.exploratory),
        *((arm.name, suite.ablation_seeds) for arm in suite.ablations),
    ]
    expected = len(suite.anchors) + sum(
        number
        for entry in suite.entries
        for arm, number in seeds
        if arm not in entry.without
    )
    assert len(runs) == expected
    assert len({run.run_hash for run in runs}) == len(runs)
    assert len({run.folder for run in runs}) == len(runs)
    entry = suite.entries[0].name
    first = [
        r for r in runs if r.seed == suite.first_seed and r.config == entry
    ]
    tested = (*suite.arms, *suite.exploratory)
    assert len(first) == len(tested) + len(suite.ablations)
    u1_arms = {
        run.arm
        for run in first
        if run.arm.startswith('u1-')
        or run.role == 'ablation'
        and '+' not in run.arm
    }
    heads = {}
    for run in first:
        model = copy.deepcopy(run.values['model'])
        angles = model.get('u1', {}).get('class_angles', {})
        if 'file' in angles:  # of data, or of a run, that is not there
            model['u1']['class_angles'] = dict(mode='uniform')
        built = MODELS.build(model)
        assert hasattr(built, 'u1') == (run.arm in u1_arms)
        assert hasattr(built, 'auxiliary') == (
            run.arm.partition('+')[0] in AUXILIARY
        )
        if hasattr(built.head, 'fc'):
            heads[run.arm] = built.head.fc.weight.shape
    # What is called so is compared: arms of a seed begin with the same.
    assert len(set(heads.values())) <= 1, heads
    kinds = {run.config_hash for run in first}
    assert len(kinds) == len(first)
    assert all(run.test != (run.role == 'ablation') for run in runs)


def test_measured_angles_come_from_another_seed(root):
    suite = load_suite(root / 'configs/suites/quick.yml')
    runs = expand(suite, Path('out'), root / 'configs')
    measured = [run for run in runs if run.arm == 'u1-measured']
    assert len(measured) == 10
    assert [run.seed for run in measured] == list(range(10))
    later = suite._replace(first_seed=30, seeds=3)
    runs += expand(later, Path('later'), root / 'configs')
    late = [r for r in runs if r.arm == 'u1-measured' and r.seed >= 30]
    assert [run.needs.name for run in late] == ['seed31', 'seed30', 'seed31']
    # More seeds change no run that is there.
    more = expand(later._replace(seeds=5), Path('later'), root / 'configs')
    needs = {(r.arm, r.seed): r.needs for r in more}
    assert all(needs[r.arm, r.seed] == r.needs for r in late)
    for run in measured + late:
        other = next(r for r in runs if r.folder == run.needs)
        assert other.arm == 'one-hot' and other.measure
        assert other.seed != run.seed


def test_what_was_tuned_holds_for_all_arms_of_a_pattern(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    tuned = {
        'u1-*': {'model.u1.loss.loss_weight': 0.7},
        'center-loss': {'model.auxiliary.loss_weight': 0.7},
    }
    arms = ['one-hot', 'u1-feature', 'u1-image', 'u1-zero', 'center-loss']
    content = dict(GOOD, arms=arms, tuned=tuned, ablations={})
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), tmp_path / 'out', root / 'configs')
    weights = {
        run.arm: run.values['model'].get(part, {}).get('loss_weight')
        or run.values['model'].get(part, {}).get('loss', {}).get('loss_weight')
        for run in runs
        for part in ('u1', 'auxiliary')
        if part in run.values['model']
    }
    assert weights == {
        'u1-feature': 0.7,
        'u1-image': 0.7,
        'u1-zero': 0.0,
        'center-loss': 0.7,
    }


def test_exploratory_arms_come_later_with_fewer_seeds(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    more = dict(seeds=2, arms=['center-loss'])
    content = dict(GOOD, seeds=3, exploratory=more, ablations={})
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), tmp_path / 'out', root / 'configs')
    arms = [run.arm for run in runs]
    assert set(arms[:-2]) == set(ARMS)
    assert [(r.arm, r.seed) for r in runs[-2:]] == [
        ('center-loss', 0),
        ('center-loss', 1),
    ]
    assert all(run.test for run in runs)


def test_variants_of_an_arm_change_what_they_name_alone(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    variants = {'scale-4': {'model.head.scale': 4.0}, 'as-it-is': {}}
    content = dict(
        GOOD,
        configs=[
            dict(GOOD['configs'][0], name=name) for name in ('first', 'second')
        ],
        ablations=dict(seeds=1, of={'arcface': variants}),
    )
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), Path('out'), root / 'configs')
    assert {run.config for run in runs} == {'first', 'second'}
    heads = {
        run.arm: run.values['model']['head']
        for run in runs
        if run.arm.startswith('arcface') and run.config == 'second'
    }
    changed = heads['arcface+scale-4']
    assert changed == dict(heads['arcface'], scale=4.0) != heads['arcface']
    assert heads['arcface+as-it-is'] == heads['arcface']


GOOD = dict(
    name='mini',
    prepare=[['dataset_converters/digits.py', 'data/digits']],
    configs=[
        dict(
            config=CONFIG,
            set={
                'model.backbone.base_channels': 4,
                'model.backbone.stem_channels': 4,
                'model.head.in_channels': 32,
                'train_cfg.max_epochs': 2,
                'train_cfg.val_interval': 1,
                'param_scheduler.total_steps': 2,
                'train_dataloader.dataset.indices': list(range(0, 1000, 9)),
                'val_dataloader.dataset.indices': 50,
                'test_dataloader.dataset.indices': 40,
            },
        )
    ],
    seeds=2,
    arms=ARMS,
    ablations=dict(
        seeds=1, set={'lambda-1': {'model.u1.loss.loss_weight': 1.0}}
    ),
)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(seeds=0), 'suite.seeds=0 must be an integer >= 1'),
        (dict(first_seed=-1), 'suite.first_seed=-1 must be an integer >= 0'),
        (dict(seeds='ten'), "suite.seeds='ten' must be an integer >= 1"),
        (dict(arms=['u1-feature']), 'exactly one arm with role: baseline'),
        (dict(arms=['one-hot', 'u1']), 'must be different names among'),
        (dict(arms=['one-hot', 'one-hot']), 'different names'),
        (dict(seed=3), r"unknown field\(s\) \['seed'\]"),
        (dict(configs=[]), 'one or several different configs'),
        (dict(configs=[dict(config='no.py')]), "config='no.py' is no file"),
        (
            dict(configs=[dict(config=CONFIG), dict(config=CONFIG)]),
            'give a config that occurs twice a `name`',
        ),
        (
            dict(configs=[dict(config=CONFIG, name='a/b')]),
            'the name .a/b. becomes a folder',
        ),
        (
            dict(ablations=dict(seeds=1, of={'arcfac': {'x': {}}})),
            'suite.ablations.of=.*arcfac.* must be different names among',
        ),
        (
            dict(ablations=dict(seeds=1, of={'arcface': {'a/b': {}}})),
            'the name .a/b. becomes a folder',
        ),
        (
            dict(seeds=1, arms=['one-hot', 'u1-measured']),
            'takes its angles from another seed',
        ),
        (
            dict(
                arms=['one-hot', 'u1-measured', 'loop'],
                define={'loop': dict(role='u1', measured='u1-measured')},
            ),
            'whose own angles are measured',
        ),
        (
            dict(arms=['one-hot'], define={'x': dict(role='u1', wrap='u1')}),
            r"unknown field\(s\) \['wrap'\]",
        ),
        (
            dict(configs=[dict(config=CONFIG, fragment='_base_/u1.py')]),
            r"unknown field\(s\) \['fragment'\]",
        ),
        (
            dict(define={'x': dict(role='hero')}),
            "suite.define.x.role='hero'",
        ),
        (
            dict(define={'a/b': dict(role='rival')}),
            'the name .a/b. becomes a folder',
        ),
        (dict(name='../up'), "suite.name: the name '../up' becomes a folder"),
        (dict(name='.hidden'), "suite.name: the name '.hidden'"),
        (dict(name='<b>'), "suite.name: the name '<b>'"),
        (dict(name='a' * 101), 'suite.name: the name'),
        (dict(name=3), 'suite.name=3 must be a string'),
        (dict(seeds=True), 'suite.seeds=True must be an integer'),
        (dict(seeds=2.0), 'suite.seeds=2.0 must be an integer'),
        (dict(seeds=10**9), 'suite.seeds=1000000000 must be an integer'),
        (dict(first_seed=2**32 - 1), 'suite.first_seed=.*no room'),
        (dict(processes=0), 'suite.processes=0 must be an integer'),
        (dict(arms=[1]), r'suite.arms=\[1\] must be different names'),
        (dict(arms=[['one-hot']]), 'suite.arms=.*must be different names'),
        (dict(configs=[CONFIG]), r'suite.configs\[0\]=.*must be a mapping'),
        (
            dict(configs=[dict(config=CONFIG, set=[1])]),
            r'suite.configs\[0\].set=\[1\] must be a dict',
        ),
        (
            dict(configs=[dict(config=CONFIG, set={1: 2})]),
            r'suite.configs\[0\].set: the option 1 must be a name',
        ),
        (
            dict(configs=[dict(config=CONFIG, set={'a..b': 2})]),
            r"suite.configs\[0\].set: the option 'a..b'",
        ),
        (
            dict(configs=[dict(config=CONFIG, set={'a': float('nan')})]),
            r'suite.configs\[0\].set.a=nan must be a string, a finite',
        ),
        (
            dict(
                configs=[
                    dict(config=CONFIG, name=name) for name in ('one', 'One')
                ]
            ),
            "suite.configs: the names 'one' and 'One' are one folder",
        ),
        (
            dict(
                arms=['one-hot', 'U1-zero'],
                define={'U1-zero': dict(role='rival')},
                ablations=dict(seeds=1, set={'u1-ZERO': {}}),
            ),
            'are one folder',
        ),
        (dict(define=['x']), 'suite.define=.*must be a dict'),
        (dict(define={7: dict(role='u1')}), 'suite.define: the name 7'),
        (
            dict(define={'x': dict(role='u1', measured=3)}),
            'suite.define.x.measured=3 must be a string or None',
        ),
        (dict(ablations=[]), r'suite.ablations=\[\] must be a dict'),
        (dict(ablations=dict(set={})), 'suite.ablations.seeds=None must be'),
        (
            dict(ablations=dict(seeds=1, set={'x': [3]})),
            r'suite.ablations.set.u1-feature.x=\[3\] must be a mapping',
        ),
        (
            dict(ablations=dict(seeds=1, of={'arcface': 'x'})),
            "suite.ablations.of.arcface='x' must be a mapping",
        ),
        (
            dict(exploratory=dict(seeds=9, arms=['center-loss'])),
            'suite.exploratory.seeds=9 must be an integer >= 1 and <= 2',
        ),
        (
            dict(exploratory=dict(seeds=1, arms=['center-loss', 'u1-zero'])),
            r"suite.exploratory.arms=.*remove \['u1-zero'\]",
        ),
        (
            dict(
                exploratory=dict(seeds=1, arms=['other']),
                define={'other': dict(role='baseline')},
            ),
            'suite.exploratory.arms=.*remove the baseline',
        ),
        (
            dict(
                exploratory=dict(seeds=1, arms=['other']),
                define={'other': dict(role='u1', measured='one-hot')},
            ),
            'suite.exploratory: other takes its angles from another',
        ),
        (
            dict(exploratory=dict(seeds=1, arms=['center-loss'], gain=1)),
            'suite.exploratory has the unknown',
        ),
        (
            dict(configs=[dict(config=CONFIG, without=['arcfac'])]),
            r"without=\['arcfac'\] must be arms of the suite, each once",
        ),
        (
            dict(configs=[dict(config=CONFIG, without=['one-hot'])]),
            r"without=\['one-hot'\] must be arms of the suite, each once",
        ),
        (
            dict(configs=[dict(config=CONFIG, without=['u1-zero'] * 2)]),
            r"without=\['u1-zero'\] must be arms of the suite, each once",
        ),
        (
            dict(
                configs=[dict(config=CONFIG, without=['u1-zero'])],
                primary=dict(gain=1, comparisons=[['u1-zero', 'one-hot']]),
            ),
            r"without=\['u1-zero'\] .* but its baseline and those of primary",
        ),
        (
            dict(
                configs=[dict(config=CONFIG, without=['u1-zero'])],
                arms=['one-hot', 'u1-zero', 'other'],
                define={'other': dict(role='u1', measured='u1-zero')},
            ),
            'leaves out what measures the class angles of other',
        ),
        (dict(tuned={'u2-*': {}}), r'suite.tuned.u2-\* matches none'),
        (dict(tuned={'u1-*': [1]}), r'suite.tuned.u1-\*=\[1\] must be'),
        (dict(prepare=['digits.py']), r"suite.prepare\[0\]='digits.py' must"),
        (dict(prepare=[[]]), r'suite.prepare\[0\]=\[\] must'),
        (dict(prepare=[['a', {}]]), r'suite.prepare\[0\]=.*must'),
    ],
)
def test_a_bad_suite_is_refused_by_name(change, words, root, tmp_path):
    suites = copied_suites(root, tmp_path)
    file = suites / 'mini.yml'
    file.write_text(yaml.safe_dump(dict(GOOD, **change)))
    with pytest.raises(ValueError, match=words):
        load_suite(file)


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        load_suite(tmp_path / 'no.yml')
    for content in (b'name: [', b'\xff\xfe\x00', b'[' * 5000, b'!!python/x'):
        (tmp_path / 'bad.yml').write_bytes(content)
        with pytest.raises(ValueError, match='suite=.*is not YAML'):
            load_suite(tmp_path / 'bad.yml')
    (tmp_path / 'bad.yml').write_text('name: a\nseeds: 3\nseeds: 4\n')
    with pytest.raises(ValueError, match="the key 'seeds' is there twice"):
        load_suite(tmp_path / 'bad.yml')
    with pytest.raises(ValueError, match='cannot be read'):
        load_suite(tmp_path)


def test_yaml_that_merges_mappings_is_no_double_key(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    text = yaml.safe_dump(GOOD) + (
        'define:\n'
        '  a: &a {role: rival, set: {model.head.topk: [1]}}\n'
        '  b: {<<: *a, role: control}\n'
    )
    file.write_text(text.replace('- u1-zero', '- u1-zero\n- a\n- b'))
    arms = {arm.name: arm for arm in load_suite(file).arms}
    a, b = arms['a'], arms['b']
    assert (a.role, b.role) == ('rival', 'control') and a.set == b.set


@pytest.mark.parametrize(
    'options, words',
    [
        ({'train_cfg.max_epoch': 3}, 'option train_cfg.max_epoch=3 is not'),
        ({'optimizer_wrapper.lr': 3}, "'optimizer_wrapper' is nothing that"),
        ({'optim_wrapper.optimiser.lr': 3}, 'option optim_wrapper.optimiser'),
        (
            {'optim_wrapper.optimizer.lrr': 3},
            'option optim_wrapper.optimizer.lrr=3 is not known',
        ),
        ({'train_pipeline': []}, "'train_pipeline' is nothing that training"),
        ({'work_dir': 'x'}, "'work_dir' is nothing that training reads, or"),
        ({'randomness.seed': 3}, 'option randomness.seed=3 is not known'),
        ({'train_dataloader.batchsize': 3}, 'train_dataloader.batchsize=3'),
        (
            {'train_dataloader.dataset.pipelin': []},
            'train_dataloader.dataset.pipelin=',
        ),
        (
            {'train_dataloader.dataset.pipeline': [dict(type='RandomFlap')]},
            r"pipeline\[0\].type='RandomFlap' is registered nowhere",
        ),
        (
            {'default_hooks.checkpoint.intervall': 3},
            'default_hooks.checkpoint.intervall=3 is not known',
        ),
        (
            {'custom_hooks': [dict(type='PermuteAnglesHook', sed=1)]},
            r'custom_hooks\[0\].sed=1 is not known',
        ),
        ({'param_scheduler.total_step': 3}, 'param_scheduler.total_step=3'),
        ({'train_cfg.max_epochs.x': 3}, 'does not fit'),
    ],
)
def test_options_that_no_config_knows_are_found_at_once(
    options, words, root, tmp_path
):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    of_config = dict(GOOD, configs=[dict(config=CONFIG, set=options)])
    of_arm = dict(GOOD, define={'one-hot': dict(role='baseline', set=options)})
    for content in (of_config, of_arm):
        file.write_text(yaml.safe_dump(content))
        suite = load_suite(file)
        with pytest.raises(ValueError, match='^suite.*' + words):
            expand(suite, tmp_path, root / 'configs')


@pytest.mark.parametrize(
    'options, words',
    [
        ({'model.head.scael': 3}, '/x: the model cannot be built.*scael'),
        ({'model.u1.nek.plane': 'image'}, 'the model cannot be built.*nek'),
        ({'model.type': 'U1'}, 'the model cannot be built.*U1'),
        ({'val_evaluator.topk': [5]}, 'val_evaluator=.*no Accuracy with top'),
    ],
)
def test_models_that_cannot_be_built_are_found_at_once(
    options, words, root, tmp_path
):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    arm = dict(role='u1', set={'model.type': 'U1ImageClassifier', **options})
    content = dict(GOOD, arms=['one-hot', 'x'], define={'x': arm})
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), tmp_path, root / 'configs')
    with pytest.raises(ValueError, match=words):
        check_plan(runs)


def test_a_config_whose_types_are_classes_makes_the_same_runs(root, tmp_path):
    """Pure-Python configs, up to what `tools/train.py` reads."""
    configs = copied_suites(root, tmp_path).parent
    text = Config.fromfile(configs / CONFIG).pretty_text
    for kind, module in CLASSES.items():
        text = text.replace(f"type='{kind}'", f'type={kind}')
        text = f'from {module} import {kind}\n{text}'
    (configs / 'pure.py').write_text(text)
    file = configs / 'suites/mini.yml'
    content = dict(GOOD, configs=[dict(config='pure.py')], ablations={})
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), tmp_path / 'out', configs)
    check_plan(runs)
    for run in runs[: len(ARMS)]:
        written = Config.fromfile(run.write_config())
        if run.needs is None:
            MODELS.build(written.model)
        hooks = [hook.type for hook in written.custom_hooks]
        assert hooks[-1 - run.measure] == 'RunRecordHook'


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    check_folder(tmp_path / 'new')
    check_folder(tmp_path)
    (tmp_path / '.lock').touch()
    check_folder(tmp_path)  # left by a kill before the first mark
    with locked(tmp_path):
        pass
    (tmp_path / 'anything').touch()
    check_folder(tmp_path)
    (tmp_path / '.lock').write_text('')  # as earlier versions left it
    with pytest.raises(FileExistsError, match='--out=.*holds files'):
        check_folder(tmp_path)
    for name, head in (
        ('planned.csv', 'config,arm,role,seed\na,b,c,1\n'),
        ('results.csv', 'suite,config,arm,role,seed,epochs\n'),
    ):
        (tmp_path / name).write_text('mine\n')
        with pytest.raises(FileExistsError, match='--out=.*not written by'):
            check_folder(tmp_path)
        (tmp_path / name).write_text(head)
        check_folder(tmp_path)
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match='--out=.*is a file'):
        check_folder(tmp_path / 'anything')


def test_runs_fork_on_gpus_that_were_counted_without_cuda(monkeypatch):
    slots = make_slots(1, '0,0', 1, None)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.delenv('PYTORCH_NVML_BASED_CUDA_CHECK', raising=False)
    assert not any(slot.forks for slot in slots)
    monkeypatch.setenv('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
    assert all(slot.forks for slot in slots)
    monkeypatch.setattr('torch.cuda.is_initialized', lambda: True)
    assert not any(slot.forks for slot in slots)


def test_a_forked_run_leaves_threads_alone_that_nobody_set(
    monkeypatch, tmp_path
):
    """On a GPU: there OMP_NUM_THREADS is the user's to set."""
    done = []
    monkeypatch.setattr(pool, 'run_mmpretrain_tool', done.append)
    monkeypatch.setattr(pool, 'die_with', lambda parent, by: None)
    monkeypatch.setattr('os.dup2', lambda *ends: None)
    monkeypatch.setattr('torch.set_num_threads', done.append)
    monkeypatch.setattr('sys.argv', [])
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    for (slot,) in make_slots(1, '0', 1, None), make_slots(1, None, 1, None):
        pool._train([], [], slot.environment(), 0, 0, 0)
    assert done == ['train.py', 1, 'train.py']


def test_a_launcher_is_asked_to_end_before_it_is_killed(tmp_path):
    """And holds the folder's lock until it has."""
    script = (
        'sleep 60 & trap "kill $!; echo bye; exit 7" TERM; echo hello; wait'
    )
    run = SimpleNamespace(
        name='run', folder=tmp_path, write_config=lambda: 'c.py'
    )
    with locked(tmp_path) as lock:
        slot = SimpleNamespace(
            forks=False,
            options=lambda *place: [],
            command=lambda *place: ['bash', '-c', f'{script} 3<&{lock}'],
            environment=lambda: dict(os.environ),
        )
        job = pool.Job(run, slot, tmp_path, lock)
        while 'hello' not in job.log.read_text():
            time.sleep(0.1)
        assert job.process.exitcode is None
        job.stop()
        assert job.process.exitcode == 7
        assert job.error().endswith('hello\nbye')
        slot.command = lambda *place: [str(tmp_path / 'nothing')]
        job = pool.Job(run, slot, tmp_path, lock)
        job.process.join()
        assert 'exit status 1' in job.error()


def test_slots():
    assert [s.gpus for s in make_slots(2, '0,1,2', 1, None)] == ['0', '1', '2']
    assert [s.gpus for s in make_slots(1, '0,1,2,3', 2, None)] == ['0,1', '2,3']
    assert len(make_slots(3, None, 1, None)) == 3
    with pytest.raises(ValueError, match='names 1 GPU'):
        make_slots(1, '0', 8, None)
    with pytest.raises(ValueError, match='leave out one'):
        make_slots(1, '0', 1, 'gpu')


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


def test_negative_logits_count():
    """As a margin head's often are; MMPretrain's default threshold is 0."""
    logits = np.array([[-2.0, -1.0], [-1.0, -3.0], [-5.0, -4.0]])
    found = top_accuracies(logits, np.array([1, 1, 1]))
    assert found == {'accuracy/top1': pytest.approx(200 / 3)}
    many = -np.arange(24.0).reshape(2, 12)
    found = top_accuracies(many, np.array([4, 5]))
    assert found == {'accuracy/top1': 0, 'accuracy/top5': 50}


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
    runs = expand(load_suite(file), finished, root / 'configs')
    with pytest.raises(ValueError, match='--out: .* a run of other settings'):
        runs[0].record()


def test_what_no_config_holds_is_checked_as_well(finished, root, tmp_path):
    """Processes, and whose class angles a run took."""
    file = copied_suites(root, tmp_path) / 'mini.yml'
    file.write_text(yaml.safe_dump(dict(GOOD, processes=2)))
    runs = expand(load_suite(file), finished, root / 'configs')
    with pytest.raises(ValueError, match='by 1 processes, not 2'):
        runs[0].record()
    file.write_text(yaml.safe_dump(GOOD))
    runs = expand(load_suite(file), finished, root / 'configs')
    measured = next(run for run in runs if run.arm == 'u1-measured')
    assert measured.record()['identity']['measured_from'] == 'one-hot/seed1'
    other = measured._replace(needs=finished / 'one-hot/seed5')
    with pytest.raises(
        ValueError, match='from one-hot/seed1, not one-hot/seed5'
    ):
        other.record()
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


def test_a_record_that_lacks_something_is_none(finished, root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    file.write_text(yaml.safe_dump(GOOD))
    out = tmp_path / 'out'
    shutil.copytree(finished, out)
    run = expand(load_suite(file), out, root / 'configs')[1]
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
