"""The weights of a checkpoint are all that a network needs, or are refused."""

from types import SimpleNamespace

import pytest
import torch
from helpers import (
    build,
    images,
    memory_classifier,
    memory_config,
    plain_config,
    u1_config,
)
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn
from twins import load_tool

from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.lab.benchmark.behaviour import load_run
from u1_plugin.lab.memory_maps import read_maps
from u1_plugin.lab.weights import (
    classifier_of,
    load_weights,
    model_config,
    weights_of,
)

PREPARED = dict(mean=[0.0] * 3, std=[255.0] * 3)


def saved(file, state) -> str:
    torch.save(dict(state_dict=state, meta={}), file)
    return str(file)


@pytest.fixture
def alien(tmp_path):
    """Weights of a network that shares no name with those of the tests."""
    state = nn.Sequential(nn.Linear(2, 2)).state_dict()
    return saved(tmp_path / 'alien.pth', state)


def test_weights_are_those_of_the_checkpoint(tmp_path):
    config = Config(dict(model=plain_config()))
    source = build(plain_config()).eval()
    file = saved(tmp_path / 'own.pth', source.state_dict())
    model = classifier_of(config, file)
    assert not model.training
    with torch.no_grad():
        assert torch.equal(model(images(2)), source(images(2)))
    assert 'data_preprocessor' not in config.model


def test_without_a_checkpoint_the_config_must_load_weights(tmp_path, alien):
    """Those of a random network would give plausible numbers."""
    config = Config(dict(model=plain_config()))
    with pytest.raises(ValueError, match='CHECKPOINT is missing.*random'):
        classifier_of(config)
    state = build(plain_config()).backbone.state_dict()
    file = saved(tmp_path / 'trunk.pth', state)
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=file)
    loaded = classifier_of(config).backbone.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    # Another network's, of which MMEngine takes nothing, with a warning.
    config.model.backbone.init_cfg['checkpoint'] = alien
    with pytest.raises(ValueError, match=r'CHECKPOINT is missing.*conv1'):
        classifier_of(config)


def test_the_untrained_twin_of_weights_in_a_file_is_untrained(tmp_path):
    """timm's `checkpoint_path` loads as `pretrained` does."""
    timm = pytest.importorskip('timm')
    network = timm.create_model('test_vit', num_classes=10)
    file = tmp_path / 'vit.pth'
    torch.save(network.state_dict(), file)
    model = dict(type='TimmClassifier', model_name='test_vit', num_classes=10)
    config = Config(dict(model=dict(model, checkpoint_path=str(file))))
    config.dump(tmp_path / 'config.py')
    loaded = classifier_of(config).model.state_dict()
    untrained = load_network(str(tmp_path / 'config.py'), seed=0).model.model
    weight = network.head.weight
    assert torch.equal(loaded['head.weight'], weight)
    assert not torch.equal(untrained.head.weight, weight)


def test_names_of_distributed_trainings_are_those_of_one_process(tmp_path):
    """With the versions of the modules, which torch asks for by name."""
    source = build(plain_config())
    nn.init.normal_(source.backbone.conv1.weight)
    wrapped = nn.ModuleDict(dict(module=source)).state_dict()
    assert all(key.startswith('module.') for key in wrapped)
    model = build(plain_config())
    load_weights(model, saved(tmp_path / 'wrapped.pth', wrapped))
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


@pytest.mark.parametrize('content', [{}, dict(model=None), dict(model=3)])
def test_a_config_without_a_model_is_named(content):
    with pytest.raises(ValueError, match='the config has no model'):
        model_config(Config(content))


def test_only_what_is_named_may_be_missing(tmp_path):
    state = build(plain_config()).state_dict()
    headless = {k: v for k, v in state.items() if not k.startswith('head.')}
    file = saved(tmp_path / 'headless.pth', headless)
    load_weights(build(plain_config()), file)
    with pytest.raises(ValueError, match='lacks 2 weights .*head.fc'):
        load_weights(build(plain_config()), file, may_lack=())
    del headless['backbone.conv1.weight']
    file = saved(tmp_path / 'less.pth', headless)
    with pytest.raises(ValueError, match='lacks 1 weights .*backbone.conv1'):
        load_weights(build(plain_config()), file)


@pytest.mark.parametrize('content', [[1, 2], 'text', {1: torch.ones(1)}])
def test_files_without_weights_are_named(content, tmp_path):
    file = tmp_path / 'odd.pth'
    torch.save(content, file)
    with pytest.raises(ValueError, match='odd.pth.* no weights by their names'):
        load_weights(build(plain_config()), str(file))


def test_what_is_no_checkpoint_is_named(tmp_path):
    file = tmp_path / 'odd.pth'
    file.write_text('no checkpoint')
    with pytest.raises(ValueError, match='odd.pth.* cannot be read'):
        load_weights(build(plain_config()), str(file))
    with pytest.raises(FileNotFoundError, match='none.pth.* does not exist'):
        load_weights(build(plain_config()), str(tmp_path / 'none.pth'))


def test_an_analysis_refuses_weights_of_another_network(alien, config_file):
    with pytest.raises(ValueError, match='CHECKPOINT .*alien.* lacks'):
        load_network(str(config_file), alien)


def test_maps_of_another_network_are_not_read(alien):
    config = Config(dict(model=memory_config(), data_preprocessor=PREPARED))
    with pytest.raises(ValueError, match='CHECKPOINT .*alien.* lacks'):
        read_maps(config, alien)


def test_orthant_maps_refuses_weights_of_another_network(alien):
    tool = load_tool('studies/orthant_maps.py')
    dataset = dict(type='Pictures', count=10)
    loader = dict(batch_size=5, num_workers=0, dataset=dataset)
    loader.update(sampler=dict(type='DefaultSampler', shuffle=False))
    config = Config(dict(model=plain_config(), val_dataloader=loader))
    with (
        DefaultScope.overwrite_default_scope('mmpretrain'),
        pytest.raises(ValueError, match='CHECKPOINT .*alien.* lacks'),
    ):
        tool.study(config, [alien], 'backbone.layer4', 'val')


def test_the_memory_of_another_network_is_not_tested(alien, tmp_path):
    tool = load_tool('memory_test.py')
    config = Config(dict(model=memory_config(), data_preprocessor=PREPARED))
    config.dump(tmp_path / 'config.py')
    args = SimpleNamespace(
        config=tmp_path / 'config.py', checkpoint=alien, cfg_options=None
    )
    with pytest.raises(ValueError, match='CHECKPOINT .*alien.* lacks'):
        tool.run_test(args, None, None)


def test_a_run_is_loaded_with_its_classifier(tmp_path):
    """What its branch measured says nothing of its answers."""
    config = Config(dict(model=u1_config()))
    config.dump(tmp_path / 'config.py')
    state = build(u1_config()).state_dict()
    plain = {k: v for k, v in state.items() if not k.startswith('u1.')}
    assert len(plain) < len(state)
    saved(tmp_path / 'epoch_3.pth', plain)
    load_run(tmp_path, 3)
    plain.pop('head.fc.bias')
    saved(tmp_path / 'epoch_3.pth', plain)
    with pytest.raises(ValueError, match='epoch_3.* lacks 1 .*head.fc.bias'):
        load_run(tmp_path, 3)


def test_a_memory_is_loaded_without_a_classifier(tmp_path):
    """Its head has no weights, and that of the checkpoint is not needed."""
    state = memory_classifier().state_dict()
    state['head.fc.weight'] = torch.zeros(2, 2)
    file = saved(tmp_path / 'own.pth', state)
    classifier_of(Config(dict(model=memory_config())), file)


@pytest.mark.parametrize('key', ['state_dict', 'model'])
def test_weights_lie_where_others_put_them(key):
    """MMEngine's checkpoints, and those of DeiT and ConvNeXt."""
    weights = {'fc.weight': torch.ones(1)}
    assert weights_of({key: weights, 'epoch': 3}) is weights
    assert weights_of(weights) is weights
    with pytest.raises(ValueError, match='^holds list, and no weights'):
        weights_of({key: [1]})
