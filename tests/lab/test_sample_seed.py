"""A resumed run draws what the first one drew, whichever runner it has."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler

from u1_plugin.lab.sample_seed_hook import SampleSeedHook


@pytest.mark.parametrize(
    'sampler, runners',
    [(dict(type='DefaultSampler'), True), (dict(seed=5), False), (None, True)],
)
def test_whose_seed_the_sampler_has(sampler, runners):
    """FlexibleRunner knows the first run's seed before the hook is asked."""
    hook = SampleSeedHook()
    loader = SimpleNamespace(sampler=DefaultSampler(range(4), seed=5))
    config = Config(dict(train_dataloader=dict(sampler=sampler)))
    runner = SimpleNamespace(seed=9, cfg=config)
    hook.before_run(runner)  # resumed: 9 is the first run's
    assert hook._seeded_by(runner, loader) == runners
    # Without a config it is compared with that of the runner.
    runner.cfg = Config()
    assert not hook._seeded_by(runner, loader)
    loader.sampler.seed = 9
    assert hook._seeded_by(runner, loader)
    assert not hook._seeded_by(runner, SimpleNamespace(sampler=object()))
    # The ranks' samplers share their seed, and runner.seed is one's own.
    runner._randomness_cfg = dict(diff_rank_seed=True)
    assert not hook._seeded_by(runner, loader)
