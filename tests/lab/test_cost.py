"""The cost benchmark: what it counts, and the command as a whole."""

import argparse
import copy
import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier

from u1_plugin.lab import cost
from u1_plugin.lab.cost_report import rows as report_rows
from u1_plugin.mm import U1ImageClassifier

CONFIG = 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'


@pytest.fixture(scope='module')
def options() -> argparse.Namespace:
    return argparse.Namespace(
        device='cpu', amp=False, batch_size=4, size=16, rounds=3
    )


@pytest.fixture
def twins(root, options):
    init_default_scope('mmpretrain')
    configs = cost.twins(Config.fromfile(root / CONFIG))
    return [cost.contestant(config, options) for config in configs]


def test_twins_are_the_plain_config_and_its_u1(root, twins):
    plain, u1 = (player.model for player in twins)
    assert type(plain) is ImageClassifier and type(u1) is U1ImageClassifier
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value), name
    rest = u1.state_dict().keys() - plain.state_dict().keys()
    assert rest and all(name.startswith('u1.') for name in rest)


def test_a_stock_config_has_a_u1_twin_and_the_reverse(root):
    stock = cost.read_config('mmpretrain::resnet/resnet18_8xb16_cifar10.py')
    plain, u1 = cost.twins(stock)
    assert plain.model == stock.model
    assert u1.model == dict(stock.model, type='U1ImageClassifier')
    given = copy.deepcopy(u1)
    given.model.type = 'u1_plugin.U1ImageClassifier'
    given.model.u1 = dict(neck=dict(plane='image'))
    plain, u1 = cost.twins(given)
    assert plain.model == stock.model
    assert u1.model.u1.neck.plane == 'image'
    stock.model.type = 'ImageToImageRetriever'
    with pytest.raises(ValueError, match="model.type='ImageToImageRetriever'"):
        cost.twins(stock)


def test_inference_is_the_same_graph(twins):
    graphs = [cost.graph(player.model, 16) for player in twins]
    assert graphs[0] == graphs[1] and len(graphs[0]) > 40


def test_peak_of_a_step_holds_the_gradients(twins, options):
    player = twins[0]
    data = cost.batch(options, 10)
    weights = sum(4 * p.numel() for p in player.model.parameters())
    peak = cost.step_bytes(player, data, 'cpu')
    assert peak > weights  # at the step's end all gradients are there
    # Momentum is a copy of every weight.
    held = cost.held_bytes(player)
    assert held >= 2 * weights
    more = cost.step_bytes(
        player,
        cost.batch(
            argparse.Namespace(**{**vars(options), 'batch_size': 64}), 10
        ),
        'cpu',
    )
    assert more > 2 * peak - weights


def test_training_flops_are_three_times_those_of_inference(twins, options):
    data = cost.batch(options, 10)
    training = cost.training_flops(twins[0], data)
    single, parameters = cost.inference_flops(twins[0], 16)
    # Forward, gradient of weights and of inputs (but of the first layer);
    # mmengine counts a product and its sum as one.
    assert 5.5 < training / options.batch_size / single <= 6.1
    assert parameters == sum(p.numel() for p in twins[0].model.parameters())


def test_rounds_alternate(options):
    order = []
    players = dict(a='a', b='b', c='c')
    options = argparse.Namespace(**{**vars(options), 'rounds': 6})
    times = cost.alternate(
        players, {}, lambda name, *_: order.append(name), options
    )
    rounds = np.array(order[3:]).reshape(6, 3)
    assert {tuple(sorted(r)) for r in rounds} == {('a', 'b', 'c')}
    # Nobody is always first, and nobody always follows the same one.
    for place in rounds.T:
        assert {n: list(place).count(n) for n in 'abc'} == dict.fromkeys(
            'abc', 2
        )
    assert len({tuple(r) for r in rounds}) == 6
    assert all(len(t) == 6 for t in times.values())


def test_branch_alone_does_the_work_of_a_step(twins, options):
    """Every operation that U(1) adds to a step's loss is in the branch."""

    def operations(work) -> dict:
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            work()
        return {e.key: e.count for e in profile.key_averages()}

    data = cost.batch(options, 10)
    for player in twins:  # the first step has checks of its own
        cost.train_step(player, data)
    plain, u1 = (
        operations(lambda p=player: cost.train_step(p, data))
        for player in twins
    )
    branch = operations(cost.branch_work(twins[1], data))
    nodes = {name for name in u1 if 'evaluate_function: ' in name}
    missing = {
        name.rpartition(' ')[2]
        for name in nodes
        if branch.get(name, 0) < u1[name] - plain.get(name, 0)
    }
    # The sum of the losses and MMEngine's mean of each are the step's.
    assert missing <= {'AddBackward0', 'MeanBackward0'}
    assert branch['aten::mm'] == u1['aten::mm'] - plain['aten::mm'] > 0


@pytest.mark.parametrize(
    'modes',
    [[], pytest.param(['--amp', '--compile'], marks=pytest.mark.slow)],
    ids=['plain', 'amp, compiled'],
)
def test_command(modes, root, environment, tmp_path):
    command = [
        *(sys.executable, str(root / 'tools/benchmarks/cost.py')),
        *(str(root / CONFIG), '--size', '16', '--batch-size', '2', *modes),
        *('--rounds', '3', '--threads', '1', '--out', 'cost'),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / 'cost/cost.json').read_text())
    (record,) = report['records']
    assert record['equal_logits'] and record['equal_graphs']
    assert {len(t) for t in record['train_s'].values()} == {3}
    for key in ('parameters', 'inference_flops'):
        assert record['stock'][key] == record['U(1)'][key] > 0
    page = (tmp_path / 'cost/cost.md').read_text()
    assert '| exported graph |  |  | equal |' in page
    assert ('AMP, compiled, 3 rounds' in page) == bool(modes)
    assert 'cost.py' in report['command']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--out', '.'], 'exists; choose another name'),
        (['--rounds', '2'], "--rounds: '2' must be an integer >= 3"),
        (['--threads', '0'], "--threads: '0' must be an integer >= 1"),
    ],
)
def test_command_says_what_is_wrong(
    root, arguments, message, monkeypatch, capsys
):
    monkeypatch.setattr(sys, 'argv', ['cost.py', *arguments])
    with pytest.raises(SystemExit):
        runpy.run_path(
            str(root / 'tools/benchmarks/cost.py'), run_name='__main__'
        )
    assert message in capsys.readouterr().err


def test_tables_say_when_inference_differs():
    times = {arm: [1.0, 2.0, 1.5] for arm in ('stock', 'stock again')}
    times['U(1)'] = [1.1, 2.2, 1.65]
    side = dict(
        parameters=5,
        inference_flops=7,
        training_flops=9,
        held_bytes=2**20,
        step_bytes=2**20,
    )
    record = dict(
        train_s=times,
        infer_s=times,
        branch_s=[0.015] * 3,
        equal_logits=False,
        equal_graphs=True,
        stock=side,
    )
    record['U(1)'] = dict(side, step_bytes=3 * 2**20)
    rows = {row[0]: row[1:] for row in report_rows(record)}
    assert rows['step, ms'][2].startswith('+10.00 %')
    assert rows['branch alone, ms'][2] == '+1.000 % of a step'
    assert rows['peak memory of a step, MiB'] == [
        '2.00',
        '4.00',
        '+100.0000 %',
    ]
    assert rows['logits, same weights'][2] == 'DIFFERENT'
