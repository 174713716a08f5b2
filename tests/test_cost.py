"""The cost benchmark: what it counts, and the command as a whole."""

import argparse
import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

CONFIG = 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'


@pytest.fixture(scope='module')
def cost(root):
    sys.path.insert(0, str(root / 'tools/benchmarks'))
    try:
        init_default_scope('mmpretrain')
        yield importlib.import_module('cost')
    finally:
        sys.path.pop(0)


@pytest.fixture(scope='module')
def options() -> argparse.Namespace:
    return argparse.Namespace(
        device='cpu', amp=False, batch_size=4, size=16, rounds=3
    )


@pytest.fixture(scope='module')
def twins(cost, root, options):
    config = Config.fromfile(root / CONFIG)
    return [
        cost.contestant(c, options) for c in (cost.stock_config(config), config)
    ]


def test_twins_are_the_plain_config_and_its_u1(cost, root, twins):
    plain, u1 = (player.model for player in twins)
    assert type(plain.neck).__name__ == 'GlobalAveragePooling'
    assert type(u1.neck).__name__ == 'BottleneckAngleNeck'
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value), name
    stock = Config.fromfile(root / CONFIG.replace('_u1', ''))
    with pytest.raises(ValueError, match='give a U'):
        cost.stock_config(stock)


def test_inference_is_the_same_graph(cost, twins):
    graphs = [cost.graph(player.model, 16) for player in twins]
    assert graphs[0] == graphs[1] and len(graphs[0]) > 40


def test_peak_of_a_step_holds_the_gradients(cost, twins, options):
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


def test_training_flops_are_three_times_those_of_inference(
    cost, twins, options
):
    data = cost.batch(options, 10)
    training = cost.training_flops(twins[0], data)
    single, parameters = cost.inference_flops(twins[0], 16)
    # Forward, gradient of weights and of inputs (but of the first layer);
    # mmengine counts a product and its sum as one.
    assert 5.5 < training / options.batch_size / single <= 6.1
    assert parameters == sum(p.numel() for p in twins[0].model.parameters())


def test_rounds_alternate(cost, options):
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


def test_branch_alone_does_the_work_of_a_step(cost, twins, options):
    """Every operation that U(1) adds to a step's loss is in the branch."""

    def operations(work) -> dict:
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as profile:
            work()
        return {e.key: e.count for e in profile.key_averages()}

    data = cost.batch(options, 10)
    plain, u1 = (
        operations(lambda p=player: cost.train_step(p, data))
        for player in twins
    )
    branch = operations(cost.branch_work(twins[1], data))
    for name in ('aten::mm', 'aten::cos', 'aten::clamp_min'):
        assert branch.get(name, 0) >= u1.get(name, 0) - plain.get(name, 0)
    assert branch['aten::mm'] == u1['aten::mm'] - plain['aten::mm'] == 2


def test_command(root, environment, tmp_path):
    command = [
        *(sys.executable, str(root / 'tools/benchmarks/cost.py')),
        *(str(root / CONFIG), '--size', '16', '--batch-size', '2'),
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
    assert 'cost.py' in report['command']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--out', '.'], 'exists; choose another name'),
        (['--rounds', '2'], '--rounds 2 must be >= 3'),
    ],
)
def test_command_says_what_is_wrong(
    cost, arguments, message, monkeypatch, capsys
):
    monkeypatch.setattr(sys, 'argv', ['cost.py', *arguments])
    with pytest.raises(SystemExit):
        cost.parse_args()
    assert message in capsys.readouterr().err


def test_tables_say_when_inference_differs(cost):
    times = {arm: [1.0, 2.0, 1.5] for arm in cost.ARMS}
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
    rows = {row[0]: row[1:] for row in cost.rows(record)}
    assert rows['step, ms'][2].startswith('+10.00 %')
    assert rows['branch alone, ms'][2] == '+1.000 % of a step'
    assert rows['peak memory of a step, MiB'] == [
        '2.00',
        '4.00',
        '+100.0000 %',
    ]
    assert rows['logits, same weights'][2] == 'DIFFERENT'
