"""Hooks, metric and probe on networks that go through ``torch.compile``."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from analysed_runs import make_runner
from helpers import build, images, plain_config, u1_config
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

from u1_plugin.measure.probe import Probe
from u1_plugin.measure.uncompiled import Uncompiled, is_compiled

HOOKS = [dict(type='EnergyMapHook'), dict(type='AngleStatsHook')]
METRIC = [dict(type='SymmetryBreaking')]


class Counter:
    """A compiler that counts how often its graphs run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph, inputs):
        def run(*args):
            self.runs += 1
            return graph(*args)

        return run


def summaries(runner) -> dict:
    files = sorted(Path(runner.log_dir).glob('u1/*/summary.json'))
    assert len(files) == 4
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def test_a_runner_that_compiles_measures_the_same(tmp_path):
    found, runs = [], []
    for compile_ in (False, dict(backend='aot_eager')):
        torch.compiler.reset()
        runner = make_runner(
            tmp_path / str(bool(compile_)),
            HOOKS,
            METRIC,
            epochs=2,
            cfg=Config(dict(compile=compile_)),
        )
        runner.train()
        assert is_compiled(runner.model) is bool(compile_)
        runs.append(runner)
        found.append(summaries(runner))
    eager, compiled = found
    for name, own in eager.items():
        for key in ('sources', 'layers'):
            for source, values in own.get(key, {}).items():
                others = compiled[name][key][source]
                for field in ('mean', 'length', 'nc1', 'profile'):
                    if field in values:
                        np.testing.assert_allclose(
                            others[field], values[field], rtol=1e-3, atol=1e-3
                        )


def compiled_forward(model: nn.Module, backend) -> nn.Module:
    """As MMEngine's FlexibleRunner compiles."""
    model.forward = torch.compile(model.forward, backend=backend)
    return model


def compiled_in_place(model: nn.Module, backend) -> nn.Module:
    model.compile(backend=backend)
    return model


def compiled_part(model: nn.Module, backend) -> nn.Module:
    model.backbone.compile(backend=backend)
    return model


def compiled_wrapper(model: nn.Module, backend) -> nn.Module:
    return torch.compile(model, backend=backend)


@pytest.mark.parametrize(
    'compiled',
    [compiled_forward, compiled_in_place, compiled_part, compiled_wrapper],
)
def test_a_compiled_network_is_measured_as_written(compiled):
    torch.compiler.reset()
    counter = Counter()
    plain = build(u1_config()).eval()
    model = compiled(build(u1_config()).eval(), counter)
    assert not is_compiled(plain) and is_compiled(model)
    with torch.no_grad():
        model(images())
    assert counter.runs  # before anything listens
    probes = []
    for network in (plain, model):
        probes.append([Probe(network), Probe(network, 'backbone.layer2')])
    for seed in (1, 2):  # again, after a detached probe
        before = counter.runs
        for group, network in zip(probes, (plain, model)):
            for probe in group:
                probe.attach()
            with torch.no_grad():
                network(images(seed=seed))
            assert counter.runs == before
            values = [probe.moments() for probe in group]
            for probe in group:  # in the order of attaching
                probe.detach()
            if network is plain:
                expected = values
        for found, wanted in zip(values, expected):
            for source, moments in wanted.items():
                torch.testing.assert_close(found[source], moments)
        with torch.no_grad():
            model(images(seed=seed))
        assert counter.runs > before  # it is the compiled one again
    torch.compiler.reset()


def test_a_time_without_a_compiler_ends_once():
    model = build(plain_config()).eval()
    counter = Counter()
    compiled_in_place(model, counter)
    first, second = Uncompiled(model), Uncompiled(model)
    second.end()  # of nothing
    first.begin(), first.begin(), second.begin()
    first.end(), first.end()
    model(images())
    assert counter.runs == 0
    second.end()
    model(images())
    assert counter.runs > 0
    torch.compiler.reset()


class Decorated(nn.Module):
    """As networks are that compile themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    @torch.compile(backend='eager')
    def forward(self, x):
        return self.backbone(x).mean((2, 3))


class Derived(Decorated):
    """Its class has nothing compiled of its own."""


class NotCompiled(nn.Module):
    """PyTorch marks what is never to be compiled in a like way."""

    @torch.compiler.disable
    def forward(self, x):
        return x


@pytest.mark.parametrize('kind', [Decorated, Derived])
def test_a_method_that_its_class_compiles(kind):
    torch.compiler.reset()
    model = kind().eval()
    assert is_compiled(model) and is_compiled(nn.Sequential(model))
    assert not is_compiled(NotCompiled())
    with torch.no_grad():
        model(images())  # traced before anything listens
        probe = Probe(model, 'backbone', 'image')
        probe.attach()
        expected = model.backbone(images(seed=1))
        model(images(seed=1))
    torch.testing.assert_close(probe.maps()['backbone'], expected)
    probe.detach()
    torch.compiler.reset()


def test_a_lost_probe_lets_the_compiler_go_on():
    """Its network's, and every other one's."""
    torch.compiler.reset()
    model = compiled_in_place(build(plain_config()).eval(), Counter())
    counter = Counter()
    other = torch.compile(nn.Linear(3, 3), backend=counter)
    lost, kept = Probe(model), Probe(model)
    lost.attach(), kept.attach()
    hooks = sum(len(part._forward_hooks) for part in model.modules())
    del lost
    gc.collect()
    other(torch.rand(2, 3))
    assert counter.runs == 0  # one still listens
    left = sum(len(part._forward_hooks) for part in model.modules())
    assert 0 < left < hooks
    del kept
    gc.collect()
    other(torch.rand(2, 3))
    assert counter.runs == 1
    assert not any(part._forward_hooks for part in model.modules())
    torch.compiler.reset()


def test_a_probe_that_was_detached_ends_no_other_s_time():
    torch.compiler.reset()
    counter = Counter()
    model = compiled_in_place(build(plain_config()).eval(), counter)
    first, second = Probe(model), Probe(model)
    first.attach(), first.detach(), second.attach()
    del first
    gc.collect()
    model(images())
    assert counter.runs == 0 and second.moments()
    second.detach()
    torch.compiler.reset()


def test_a_validation_that_raised_is_over_with_the_next_run(tmp_path):
    torch.compiler.reset()

    class Stop(Hook):
        on = True

        def after_val_iter(self, runner, *args, **kwargs):
            if self.on:
                raise RuntimeError('stopped')

    # One of the metrics asks for what the hook does not measure.
    metric = [dict(type='SymmetryBreaking', bins=12)]
    runner = make_runner(tmp_path, HOOKS, metric, epochs=1)
    compiled_in_place(runner.model, Counter())
    stop = Stop()
    runner.register_hook(stop)
    counter = Counter()
    other = torch.compile(nn.Linear(3, 3), backend=counter)
    with pytest.raises(RuntimeError, match='stopped'):
        runner.val()
    other(torch.rand(2, 3))
    assert counter.runs == 0
    seen = []

    class See(Hook):
        priority = 'LOWEST'

        def before_run(self, runner):
            other(torch.rand(2, 3))
            seen.append(counter.runs)

    runner.register_hook(See())
    stop.on = False
    metrics = runner.val()
    assert seen == [1]
    assert 0 <= metrics['u1/class_information_p'] <= 1
    other(torch.rand(2, 3))
    assert counter.runs == 2
    torch.compiler.reset()
