"""Hue maps of validation images in the back ends of a real run."""

import re
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from analysed_runs import loader, make_runner
from helpers import Pictures, u1_config
from matplotlib.figure import Figure
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from sklearn.datasets import load_sample_images
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from u1_plugin.measure.hue import hue_figure, hue_map
from u1_plugin.measure.probe import Probe
from u1_plugin.mm.hooks import visualization_hook
from u1_plugin.mm.hooks.visualization_hook import U1VisualizationHook
from u1_plugin.nn import FeaturePlane

BACKENDS = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]


@DATASETS.register_module(force=True)
class Photographs(Pictures):
    """Two photographs and their mirror images, as BGR, from files."""

    metainfo = dict(classes=('temple', 'flower'))

    def __init__(self) -> None:
        super().__init__(4, 96)
        for i, sample in enumerate(self.samples):
            picture = load_sample_images().images[i % 2][::4, ::4, ::-1]
            crop = torch.from_numpy(picture[:96, 20:116].copy())
            self.inputs[i] = crop.permute(2, 0, 1) / 255
            if i > 1:
                self.inputs[i] = self.inputs[i].flip(2)
            sample.set_gt_label(i % 2)
            sample.set_metainfo(dict(img_path=f'somewhere/{i % 2}/cat.jpg'))


def run(folder: Path, hook: dict, backends=BACKENDS, **settings) -> Runner:
    data = dict(loader(4, 3), dataset=Photographs())
    runner = make_runner(
        folder,
        [dict(type='U1VisualizationHook', **hook)],
        visualizer=dict(
            type='UniversalVisualizer', vis_backends=deepcopy(backends)
        ),
        **settings,
    )
    runner._val_dataloader = runner._test_dataloader = data
    return runner


def test_back_ends_show_every_third_image(tmp_path):
    layers = ['backbone.layer2', 'backbone']
    hook = dict(enable=True, interval=3, layers=layers)
    runner = run(tmp_path, hook)
    runner.train()
    folder = Path(runner.log_dir) / 'vis_data'
    names = {file.name for file in (folder / 'vis_image').iterdir()}
    wanted = ['u1_hue_val_0_cat.jpg', 'u1_hue_val_3_cat.jpg']
    assert names == {f'{name}_1.png' for name in wanted}
    events = EventAccumulator(str(folder)).Reload()
    assert sorted(events.Tags()['images']) == wanted
    for name in wanted:
        (event,) = events.Images(name)
        assert event.step == 1
        shown = np.frombuffer(event.encoded_image_string, np.uint8)
        file = folder / 'vis_image' / f'{name}_1.png'
        picture = cv2.imread(str(file))
        assert (cv2.imdecode(shown, cv2.IMREAD_COLOR) == picture).all()
        assert picture.shape[1] > 900 and picture.std() > 20
    # Mirrored photographs do not look the same.
    first, last = (
        cv2.imread(str(folder / 'vis_image' / f'{name}_1.png'))
        for name in wanted
    )
    assert (first != last).mean() > 0.05


class Views(Pictures):
    """Each image as it is and mirrored, as test-time augmentation has it."""

    def __getitem__(self, index: int) -> dict:
        image, sample = self.inputs[index] * 255, self.samples[index]
        mirrored = deepcopy(sample)
        mirrored.set_metainfo(dict(flip=True))
        return dict(
            inputs=[image, image.flip(-1)], data_samples=[sample, mirrored]
        )


def test_of_several_views_the_map_is_the_drawn_image_s(tmp_path, monkeypatch):
    """Though batches before it were not drawn, and the last is smaller."""
    drawn = {}

    def record(photo, maps, title, **options):
        drawn[title] = maps['backbone']
        return Figure()

    monkeypatch.setattr(visualization_hook, 'hue_figure', record)
    module = u1_config()
    module.data_preprocessor = dict(type='ClsDataPreprocessor')
    runner = make_runner(
        tmp_path,
        [dict(type='U1VisualizationHook', enable=True, interval=6)],
        model=dict(type='AverageClsScoreTTA', module=module),
    )
    views = Views(7)
    runner._test_dataloader = dict(loader(7, 2), dataset=views)
    runner.test()
    network = runner.model.module.eval()
    inputs = (views.inputs * 255 - 127.5) / 127.5
    with torch.no_grad():
        (maps,) = network.extract_feat(inputs, stage='backbone')
    plane = network.u1.neck.feature_planes[0].eval()
    assert [title[:1] for title in drawn] == ['0', '6']
    for number, shown in zip((0, 6), drawn.values()):
        expected = hue_map(maps[number], plane)
        np.testing.assert_allclose(shown.energy, expected.energy, 1e-4)


def test_pictures_of_others_stay_and_long_names_are_shortened(tmp_path):
    out, taken = tmp_path / 'out', '0_cat.jpg_u1_test_0.png'
    hook = dict(enable=True, interval=4, out_dir=str(out))
    out.mkdir()
    (out / taken).write_text('precious')
    for _ in range(2):  # the run's own are replaced
        run(tmp_path / 'work', hook).test()
    assert (out / taken).read_text() == 'precious'
    assert [f.name for f in out.iterdir() if f.name != taken] == [
        '0_cat.jpg_u1_test_0-2.png'
    ]
    run(tmp_path / 'other', hook).test()
    assert (out / '0_cat.jpg_u1_test_0-3.png').exists()
    runner = run(tmp_path / 'long', dict(hook, out_dir=str(tmp_path / 'new')))
    sample = runner._test_dataloader['dataset'].samples[0]
    sample.set_metainfo(dict(img_path='\u00e4' * 120 + '.jpg'))
    runner.test()
    (file,) = (tmp_path / 'new').iterdir()
    assert file.name.startswith('0_\u00e4') and '...' in file.name
    assert file.name.endswith('.jpg_u1_test_0.png')


def test_pixels_that_are_not_finite_are_grey_and_counted():
    activation = torch.rand(8, 4, 4) * 1e25
    activation[:, 1, 2] = torch.nan
    plane = FeaturePlane()
    colors = hue_map(activation, plane).colors()
    assert (colors[1, 2] == 0.5).all() and np.isfinite(colors).all()
    ordinary = hue_map(activation / 1e25, plane)
    np.testing.assert_allclose(colors, ordinary.colors(), atol=1e-5)
    assert colors.max() > 0.9
    figure = hue_figure(
        np.zeros((8, 8, 3)), dict(layer=ordinary), brightness='norm'
    )
    text = figure.axes[1].get_title()
    assert 'not finite, grey: 1 pixel(s)' in text and 'nan' not in text


def test_a_folder_of_one_s_own_takes_the_back_ends_place(tmp_path):
    out = tmp_path / 'out'
    hook = dict(enable=True, interval=2, out_dir=str(out), palette='hsv')
    runner = run(tmp_path / 'work', hook)
    runner.test()
    assert {file.name for file in out.iterdir()} == {
        '0_cat.jpg_u1_test_0.png',
        '2_cat.jpg_u1_test_0.png',
    }
    run(tmp_path / 'more', hook).val()  # draws beside them
    assert len(list(out.iterdir())) == 4
    assert not (Path(runner.log_dir) / 'vis_data/vis_image').exists()


def test_nothing_is_drawn_or_hooked_without_being_asked_for(tmp_path):
    runner = run(tmp_path, {})
    runner.test()
    assert not (Path(runner.log_dir) / 'vis_data/vis_image').exists()
    hooks = sum(len(m._forward_hooks) for m in runner.model.modules())
    assert hooks == 1  # of the U(1) branch


@pytest.mark.parametrize('windings', [(1,), (2, 1), (2,)])
def test_the_hue_is_the_measured_plane_s(windings, tmp_path, monkeypatch):
    """Also where the branch has a plane, an orthant and windings of its own."""
    seen = []
    draw = visualization_hook.hue_figure
    monkeypatch.setattr(
        visualization_hook,
        'hue_figure',
        lambda photo, maps, **options: (
            seen.append((photo, maps, options)) or draw(photo, maps, **options)
        ),
    )
    neck = dict(windings=windings, orthant='abs')
    runner = run(tmp_path, dict(enable=True, interval=3), neck=neck)
    runner.test()
    (photo, maps, options), (_, last, _) = seen
    inputs = Photographs().inputs
    bgr = inputs[0].flip(0).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(photo, bgr, atol=1e-6)
    assert re.match(r'0_cat\.jpg: class temple, predicted', options['title'])
    probe = Probe(runner.model, plane='feature')
    probe.attach()
    runner.model.eval()
    with torch.no_grad():
        runner.model((inputs[:3] * 255 - 127.5) / 127.5)
    (activation,) = probe.maps().values()
    plane = runner.model.u1.neck.feature_planes[0].eval()
    place = plane.windings.index(1 if 1 in windings else windings[0])

    def moment(pixels):
        found = plane(pixels)
        return found if found.ndim == 2 else found[:, place]

    expected = hue_map(activation[0], moment, 'abs')
    probe.detach()
    np.testing.assert_allclose(maps['backbone'].energy, expected.energy, 1e-4)
    np.testing.assert_allclose(maps['backbone'].theta, expected.theta, 1e-3)
    assert last.keys() == maps.keys()


def test_weights_and_biases_gets_the_pictures(tmp_path, monkeypatch):
    wandb = pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    backend = dict(type='WandbVisBackend', init_kwargs=dict(project='u1'))
    runner = run(tmp_path, dict(enable=True, interval=4), [backend])
    runner.test()
    wandb.finish()
    files = list(Path(runner.log_dir).rglob('media/images/*.png'))
    assert [file.name.startswith('u1_hue_test_0_cat') for file in files] == [
        True
    ]


@pytest.mark.parametrize(
    'options',
    [
        dict(interval=0),
        dict(enable=1),
        dict(palette='jet'),
        dict(out_dir=3),
        dict(wait_time=-1),
        dict(layers=[]),
    ],
)
def test_options_are_checked(options):
    (name,) = options
    with pytest.raises(ValueError, match=f'U1VisualizationHook.{name}'):
        U1VisualizationHook(**options)
