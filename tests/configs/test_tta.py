"""Under test-time augmentation the images are measured, not their views."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from digit_runs import HOOKS, build, summaries
from helpers import build as build_model
from helpers import samples, u1_config
from mmengine.registry import DefaultScope

from u1_plugin.geometry import energy, image_moment
from u1_plugin.measure.probe import Probe
from u1_plugin.networks import unwrapped


def test_the_tool_s_tta_measures_images_and_no_mirror_images(
    root, environment, config, tmp_path
):
    config.custom_hooks = HOOKS
    config.test_evaluator = [
        dict(type='Accuracy'),
        dict(type='SymmetryBreaking', plane='image'),
    ]
    runner = build(config, HOOKS)
    torch.manual_seed(0)
    runner.model.init_weights()
    plain = runner.test()
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=runner.model.state_dict()), weights)
    draw = dict(type='U1VisualizationHook', enable=True, interval=20)
    config.custom_hooks = [*HOOKS, draw]
    config.pop('experiment_name')
    config.dump(str(tmp_path / 'config.py'))
    command = [sys.executable, str(root / 'tools/test.py'), 'config.py']
    command += [str(weights), '--tta', '--work-dir', 'tta']
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = summaries(runner)
    for name, own in expected.items():
        (file,) = tmp_path.glob(f'tta/*/u1/{name}/summary.json')
        found = json.loads(file.read_text())
        for key in ('sources', 'layers'):
            for source, values in own.get(key, {}).items():
                for field in ('n', 'mean', 'length', 'profile'):
                    if field in values:
                        np.testing.assert_allclose(
                            found[key][source][field], values[field], atol=1e-5
                        )
    pictures = tmp_path.glob('tta/*/vis_data/vis_image/u1_hue_test_*.png')
    assert len(list(pictures)) == 2
    (log,) = tmp_path.glob('tta/*/*.json')
    metrics = json.loads(log.read_text())
    name = 'u1/resultant_length'
    assert metrics[name] == pytest.approx(plain[name], abs=1e-5)


@pytest.mark.parametrize(
    'flips, read',
    [
        ([[0, 0], [1, 1]], 0),
        ([[1, 1], [0, 0]], 1),
        ([[0, 1], [1, 0], [0, 0], [0, 0]], 2),
        ([[1, 1], [0, 1]], None),
    ],
)
def test_the_view_that_is_read(flips, read):
    """The first in which no image is mirrored, batch by batch."""
    module = u1_config(neck=dict(plane='image'))
    module.data_preprocessor = dict(type='ClsDataPreprocessor')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build_model(dict(type='AverageClsScoreTTA', module=module))
    model.eval()
    assert unwrapped(model) is model.module
    before = sum(len(part._forward_hooks) for part in model.modules())
    views = torch.rand(len(flips), 2, 3, 32, 32) * 255
    probe = Probe(model, plane='image')
    probe.attach()
    for batch in (views, views.flip(1)):
        data_samples = [samples(2) for _ in flips]
        for view, own in zip(data_samples, flips):
            for sample, flip in zip(view, own):
                sample.set_metainfo(dict(flip=bool(flip)))
        data = dict(inputs=list(batch), data_samples=data_samples)
        with torch.no_grad():
            model.test_step(data)
        if read is None:
            with pytest.raises(ValueError, match='tta_pipeline mirrors'):
                probe.moments()
            continue
        (found,) = probe.moments().values()
        with torch.no_grad():
            maps = model.module.backbone(batch[read])[-1]
        expected = image_moment(energy(maps.relu()))
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(*probe.moments().values(), found)
    probe.detach()
    after = sum(len(part._forward_hooks) for part in model.modules())
    assert after == before
