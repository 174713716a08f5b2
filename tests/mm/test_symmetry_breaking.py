"""The metric measures its own network, once, and all its images."""

import pytest
import torch
from analysed_runs import Spy, make_runner
from helpers import build, images, plain_config, samples
from mmengine.evaluator import Evaluator


def test_the_metric_names_several_sources(tmp_path):
    metric = dict(
        type='SymmetryBreaking',
        layers=['backbone', 'backbone.layer3'],
        plane='joint',
    )
    hooks = [dict(type='AngleStatsHook')]  # of the last map alone
    metrics = make_runner(tmp_path, hooks, [metric]).test()
    names = {name for name in metrics if name.startswith('u1/')}
    assert len(names) == 2 * (2 * 5 + 3)
    assert 'u1/backbone.layer3/image/between_share' in names
    assert 'u1/backbone.layer3/nc1' in names


@pytest.mark.parametrize(
    'options, hooked',
    [
        (dict(layers='backbone'), 3),  # read by the second hook anyway
        (dict(layers=['backbone'], plane='image'), 3),
        (dict(layers='backbone', orthant='abs'), 4),
        (dict(layers='backbone', bins=9), 4),
    ],
)
def test_what_a_hook_measures_is_not_measured_again(options, hooked, tmp_path):
    spy = Spy()
    hooks = [dict(type='AngleStatsHook', plane='feature', bins=8)]
    hooks += [dict(type='AngleStatsHook', layers='backbone'), spy]
    metric = dict(type='SymmetryBreaking', **options)
    runner = make_runner(tmp_path / 'a', hooks, [metric])
    runner.train()
    assert spy.counts == [1, *[hooked] * 5, 1]
    metrics = runner.test()
    alone = dict(options, type='AngleStatsHook')
    again = make_runner(tmp_path / 'b', [alone], [metric])
    again.model.load_state_dict(runner.model.state_dict())
    assert metrics == pytest.approx(again.test())


def test_two_runners_read_their_own_networks(tmp_path):
    """The latest model that was built is not the first runner's."""
    hooks = [dict(type='AngleStatsHook')]
    metric = [dict(type='SymmetryBreaking')]
    first = make_runner(tmp_path / 'a', hooks, metric)
    second = make_runner(tmp_path / 'b', hooks, metric)
    second.model.backbone.layer4[-1].conv2.weight.data.neg_()
    values = [runner.test() for runner in (first, second)]
    again = first.test()
    assert values[0] == again
    assert values[0]['u1/shared_length'] != values[1]['u1/shared_length']


def test_a_metric_without_a_network_says_so(tmp_path):
    runner = make_runner(tmp_path, [], [dict(type='SymmetryBreaking')])
    with pytest.raises(RuntimeError, match="type='AngleStatsHook'"):
        runner.test()
    metric = Evaluator(dict(type='SymmetryBreaking')).metrics[0]
    with pytest.raises(RuntimeError, match='attach'):
        metric.process(None, [sample.to_dict() for sample in samples()])
    model = build(plain_config()).eval()
    metric.attach(model)
    with torch.no_grad():
        model(images())
    metric.process(None, [sample.to_dict() for sample in samples()])
    found = metric.evaluate(4)
    assert found['u1/resultant_length'] == pytest.approx(1)
    # One image a class says all of it and more than chance does nothing.
    assert found['u1/nc1'] == pytest.approx(0, abs=1e-6)
    metric.process(None, [sample.to_dict() for sample in samples()])
    assert metric.evaluate(4) == pytest.approx(found, nan_ok=True)
    metric.process(None, [sample.to_dict() for sample in samples()])
    with pytest.raises(ValueError, match='seen 4 images of 3'):
        metric.evaluate(3)
    metric.detach()
    assert not any(module._forward_hooks for module in model.modules())
