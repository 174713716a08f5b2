"""Options and models that no run could use are found at once."""

import pytest
import yaml
from helpers import copied_suites
from small_suites import CONFIG, GOOD

from u1_plugin.lab.benchmark.expand import expand
from u1_plugin.lab.benchmark.plan import check_plan
from u1_plugin.lab.benchmark.suite import load_suite


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
        (
            {'optim_wrapper.paramwise_cfg.norm_decay_mul': 0.0},
            'paramwise_cfg.norm_decay_mul=0.0 is not known',
        ),
        ({'env_cfg.cudnn_benchmrk': True}, 'env_cfg.cudnn_benchmrk=True is'),
        (
            {'optim_wrapper.clip_grad': dict(max_nrom=1.0)},
            'clip_grad.max_nrom=1.0 is not known',
        ),
        (
            {'optim_wrapper.optimizer.lr': True},
            'optimizer.lr=True takes the place of the number',
        ),
        (
            {'optim_wrapper.optimizer.lr': '0.1'},
            "optimizer.lr='0.1' takes the place of the number",
        ),
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
            expand(suite, tmp_path)


@pytest.mark.parametrize(
    'options',
    [
        {'optim_wrapper.paramwise_cfg.norm_decay_mult': 0.0},
        {'optim_wrapper.clip_grad': dict(type='value', clip_value=1.0)},
        {
            'optim_wrapper.constructor': 'MyConstructor',
            'optim_wrapper.paramwise_cfg.mine': 1,
        },
    ],
)
def test_options_that_training_knows_pass(options, root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    content = dict(GOOD, configs=[dict(config=CONFIG, set=options)])
    file.write_text(yaml.safe_dump(content))
    assert expand(load_suite(file), tmp_path)


@pytest.mark.parametrize('hooks', [None, dict(type='EMAHook')])
def test_hooks_of_an_arm_are_a_list(hooks, root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    arm = dict(role='rival', set=dict(custom_hooks=hooks))
    content = dict(GOOD, arms=['one-hot', 'x'], define={'x': arm})
    file.write_text(yaml.safe_dump({**content, 'ablations': {}}))
    with pytest.raises(ValueError, match='custom_hooks=.* must be a list'):
        expand(load_suite(file), tmp_path)


@pytest.mark.parametrize(
    'options, words',
    [
        ({'model.head.scael': 3}, '/x: the model cannot be built.*scael'),
        ({'model.u1.nek.plane': 'image'}, 'the model cannot be built.*nek'),
        ({'model.type': 'U1'}, 'the model cannot be built.*U1'),
        ({'val_evaluator.topk': [5]}, 'val_evaluator=.*no Accuracy with top'),
        (
            {'custom_hooks': [dict(type='EarlyStoppingHook', monitor='a')]},
            'EarlyStoppingHook, by which .* no pairs',
        ),
        ({'train_cfg.max_epochs': 3}, 'max_epochs=3, but one-hot has 2: arms'),
        ({'train_cfg.max_epochs': 2.5}, r'train_cfg\.max_epochs=2\.5 must be'),
        ({'train_cfg.val_interval': 0}, r'train_cfg\.val_interval=0 must be'),
        ({'train_dataloader.batch_size': 0}, 'batch_size=0 must be a whole'),
    ],
)
def test_models_that_cannot_be_built_are_found_at_once(
    options, words, root, tmp_path
):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    arm = dict(role='u1', set={'model.type': 'U1ImageClassifier', **options})
    content = dict(GOOD, arms=['one-hot', 'x'], define={'x': arm})
    file.write_text(yaml.safe_dump(content))
    runs = expand(load_suite(file), tmp_path)
    with pytest.raises(ValueError, match=words):
        check_plan(runs)
