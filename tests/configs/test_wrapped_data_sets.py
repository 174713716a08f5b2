"""Hooks, metric and class angles are the same on wrapped data sets."""

import numpy as np
import pytest
import torch
from digit_runs import HOOKS, build, class_angles, summaries
from mmengine.config import ConfigDict


def concat(inner: dict) -> dict:
    return dict(
        type='ConcatDataset',
        datasets=[dict(inner, indices=range(k, 30, 2)) for k in (0, 1)],
    )


#: And how many images each has for one of what it wraps.
WRAPPERS = dict(
    ClassBalancedDataset=(
        lambda d: dict(
            type='ClassBalancedDataset', oversample_thr=1e-3, dataset=d
        ),
        1,
    ),
    KFoldDataset=(
        lambda d: dict(type='KFoldDataset', num_splits=3, seed=0, dataset=d),
        2 / 3,
    ),
    nested=(
        lambda d: dict(type='RepeatDataset', times=2, dataset=concat(d)),
        2,
    ),
)


def test_hooks_and_metric_on_wrapped_sets(config):
    found = {}
    plain = config.test_dataloader.dataset
    for name, (wrap, times) in dict(plain=(dict, 1), **WRAPPERS).items():
        config.test_dataloader.dataset = wrap(plain)
        runner = build(config, HOOKS)
        torch.manual_seed(0)
        runner.model.init_weights()
        metrics = runner.test()
        own = summaries(runner)
        source = own['angles_test_epoch_0']['sources']['backbone/feature']
        energy = own['energy_test_epoch_0']['layers']['backbone']
        assert source['n'] == energy['n'] == round(30 * times), name
        assert source['classes'] == list('0123456789')
        found[name] = [source['mean'], metrics['u1/resultant_length']]
    for name in ('ClassBalancedDataset', 'nested'):
        for own, expected in zip(found[name], found['plain']):
            np.testing.assert_allclose(own, expected, atol=1e-5, err_msg=name)


def test_class_angles_of_a_wrapped_training_set(config):
    """Each image once, whatever repeats it, and without augmentation."""
    plain = config.train_dataloader.dataset
    # Images that the validation pipeline does not flip.
    plain.pipeline.insert(1, dict(type='RandomFlip', prob=1.0))
    for part in ('dataloader', 'cfg', 'evaluator'):
        config.pop(f'test_{part}')
    found = {}
    for name in ('plain', 'ClassBalancedDataset', 'nested'):
        wrap = dict if name == 'plain' else WRAPPERS[name][0]
        config.train_dataloader.dataset = ConfigDict(wrap(plain))
        if name == 'nested':
            parts = config.train_dataloader.dataset.dataset.datasets
            for start, part in enumerate(parts):
                part.indices = list(range(start, 40, 2))
        runner = build(config, [dict(type='MeasureClassAnglesHook')])
        torch.manual_seed(0)
        runner.model.init_weights()
        runner.call_hook('before_train')
        runner.call_hook('after_train')
        found[name] = class_angles(runner)['class_angles']
    for name, own in found.items():
        np.testing.assert_allclose(own, found['plain'], atol=1e-5, err_msg=name)


def test_a_label_without_a_class_is_no_other_class(config):
    config.test_dataloader.dataset.update(
        type='SubsetDataset', of='CustomDataset', classes=list('0123456789')
    )
    runner = build(config, [dict(type='AngleStatsHook')])
    data = runner.test_dataloader.dataset
    info = data.get_data_info(0)
    data.serialize_data = False
    for label in (10, -1):
        data.data_list = [dict(info, gt_label=label)]
        with pytest.raises(ValueError, match=rf'test_dataloader.*{label}'):
            runner.test()
