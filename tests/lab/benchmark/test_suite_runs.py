"""A suite becomes the runs of its arms, seeds and variants."""

import copy
from pathlib import Path

import pytest
import yaml
from helpers import copied_suites
from mmengine.config import Config
from mmpretrain.registry import MODELS
from small_suites import ARMS, CONFIG, GOOD

from u1_plugin.lab.benchmark.expand import expand
from u1_plugin.lab.benchmark.plan import check_plan
from u1_plugin.lab.benchmark.suite import load_suite

SUITES = [
    'recipe',
    'recipe_glyphsk',
    'recipe_swin',
    'recipe_wide',
    'weights',
    'weights_spheres',
    'weights_swin',
    'weights_glyphsk',
    'pilot',
    'pilot_swin',
    'glyphs62',
    'glyphs62_swin',
    'spheres',
    'rivals',
    'circle',
    'glyphsk',
    'confirm_glyphsk',
    'emoji58',
    'emoji58_angles',
    'clipart',
    'clipart_flips',
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


@pytest.mark.slow
@pytest.mark.parametrize('name', SUITES)
def test_every_arm_of_every_suite_builds(name, root):
    suite = load_suite(root / f'configs/suites/{name}.yml')
    runs = expand(suite, Path('out'))
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


def test_what_was_tuned_holds_for_all_arms_of_a_pattern(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    tuned = {
        'u1-*': {'model.u1.loss.loss_weight': 0.7},
        'center-loss': {'model.auxiliary.loss_weight': 0.7},
    }
    arms = ['one-hot', 'u1-feature', 'u1-image', 'u1-zero', 'center-loss']
    content = dict(GOOD, arms=arms, tuned=tuned, ablations={})
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), tmp_path / 'out')
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


def test_hooks_of_an_arm_come_beside_those_of_the_recipe(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    average = dict(type='EMAHook', momentum=4e-5)
    configs = [dict(config=CONFIG, set={'custom_hooks': [average]})]
    arms = ['one-hot', 'u1-feature', 'u1-permuted']
    content = dict(GOOD, configs=configs, arms=arms, ablations={})
    file.write_text(yaml.safe_dump(content))
    hooks = {
        run.arm: run.values['custom_hooks']
        for run in expand(load_suite(file), tmp_path / 'out')
    }
    assert hooks['one-hot'] == hooks['u1-feature'] == [average]
    assert hooks['u1-permuted'] == [average, dict(type='PermuteAnglesHook')]


def test_configs_are_those_around_the_suite_or_the_plugins(root, tmp_path):
    """A suite of one's own may lie anywhere."""
    mine = tmp_path / 'mine'
    (mine / 'suites').mkdir(parents=True)
    stock = root / 'configs' / CONFIG
    (mine / 'net.py').write_text(f'_base_ = [{str(stock)!r}]\nfoo = 1\n')
    arms = {'one-hot': dict(role='baseline')}
    configs = [dict(config='net.py'), dict(config=CONFIG)]
    content = dict(name='mine', configs=configs, seeds=1, arms=['one-hot'])
    file = mine / 'suites/mine.yml'
    file.write_text(yaml.safe_dump(dict(content, define=arms)))
    with pytest.raises(ValueError, match=r'configs\[1\].*is no file in'):
        load_suite(file)
    suite = load_suite(file, root / 'configs')
    found = [run.values.get('foo') for run in expand(suite, tmp_path / 'out')]
    assert found == [1, None]


def test_exploratory_arms_come_later_with_fewer_seeds(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    more = dict(seeds=2, arms=['center-loss'])
    content = dict(GOOD, seeds=3, exploratory=more, ablations={})
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), tmp_path / 'out')
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
    runs = expand(load_suite(file), Path('out'))
    assert {run.config for run in runs} == {'first', 'second'}
    heads = {
        run.arm: run.values['model']['head']
        for run in runs
        if run.arm.startswith('arcface') and run.config == 'second'
    }
    changed = heads['arcface+scale-4']
    assert changed == dict(heads['arcface'], scale=4.0) != heads['arcface']
    assert heads['arcface+as-it-is'] == heads['arcface']


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
    runs = expand(load_suite(file), tmp_path / 'out')
    check_plan(runs)
    for run in runs[: len(ARMS)]:
        written = Config.fromfile(run.write_config())
        if run.needs is None:
            MODELS.build(written.model)
        hooks = [hook.type for hook in written.custom_hooks]
        assert hooks[-1 - run.measure] == 'RunRecordHook'
