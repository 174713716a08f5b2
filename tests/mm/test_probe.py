"""The probe takes the neck's own plane, and names options it refuses."""

import re

import pytest
import torch
from analysed_runs import make_runner, summary_file
from helpers import build, images, samples, u1_config

from u1_plugin.geometry import energy, image_moment, pooled_vector
from u1_plugin.measure.probe import Probe, ProbedLayer
from u1_plugin.measure.probe_options import class_labels
from u1_plugin.mm.hooks.angle_stats_hook import AngleStatsHook
from u1_plugin.mm.hooks.energy_map_hook import EnergyMapHook
from u1_plugin.mm.symmetry_breaking import SymmetryBreaking
from u1_plugin.nn import FeaturePlane


def test_the_probe_takes_the_neck_s_own_plane_and_settings():
    plane = dict(basis='learned', center='running')
    neck = dict(feature_plane=plane, orthant='abs')
    model = build(u1_config(neck=neck))
    model(images(), samples(), mode='loss')  # moves the centre
    model.eval()
    own, plain = Probe(model), Probe(model, feature_plane=dict())
    own.attach(), plain.attach()
    with torch.no_grad():
        model(images())
        (maps,) = model.backbone(images())
        vectors = pooled_vector(maps.abs())
        expected = model.u1.neck.feature_planes[0](vectors)
    source = ProbedLayer('backbone', 'feature')
    torch.testing.assert_close(own.moments()[source], expected)
    assert not torch.allclose(plain.moments()[source], expected)
    own.detach(), plain.detach()


@pytest.mark.parametrize('scale', [1e20, 1e-24])
def test_angles_do_not_depend_on_the_scale_of_the_maps(scale):
    model = build(u1_config(neck=dict(plane='image'))).eval()
    probe, found = Probe(model), []
    for factor in (1.0, scale):
        probe.attach()
        weigh = model.backbone.layer4.register_forward_hook(
            lambda module, given, out, factor=factor: out * factor
        )
        with torch.no_grad():
            model(images())
        found.append(probe.moments()[ProbedLayer('backbone', 'image')])
        weigh.remove()
        probe.detach()
    assert found[0].abs().min() > 0
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize(
    'windings, winding', [((1, 2), 1), ((2, 1), 1), ((2, 3), 2), ((2,), 2)]
)
def test_one_angle_of_several_windings_is_measured(windings, winding, tmp_path):
    neck = dict(windings=windings)
    model = build(u1_config(neck=neck)).eval()
    probe = Probe(model, layers=['backbone', 'backbone.layer3'])
    probe.attach()
    with torch.no_grad():
        model(images())
    moments = probe.moments()
    for layer, intensity in probe.intensities().items():
        plane = FeaturePlane(windings=(winding,)).eval()
        feature = plane(pooled_vector(intensity))
        image = image_moment(energy(intensity), winding)
        for name, wanted in (('feature', feature), ('image', image)):
            found = moments[ProbedLayer(layer, name)]
            torch.testing.assert_close(found, wanted)
    probe.detach()
    hooks = [dict(type='AngleStatsHook')]
    metrics = [dict(type='SymmetryBreaking')]
    runner = make_runner(tmp_path, hooks, metrics, neck=neck)
    found = runner.test()
    sources = summary_file(runner, 'angles_test_epoch_0')['sources']
    assert set(sources) == {'backbone/feature', 'backbone/image'}
    length = sources['backbone/feature']['resultant_length']
    name = 'u1/resultant_length'
    assert found[name] == pytest.approx(length, abs=1e-6)


@pytest.mark.parametrize(
    'act, words',
    [
        (lambda m: Probe(m, ['backbone.layer9']), "no module 'layer9'"),
        (lambda m: Probe(m, plane='both'), "plane='both'"),
        (lambda m: Probe(m, orthant='none'), "orthant='none'"),
        (
            lambda m: Probe(m, feature_plane=dict(center='running')),
            "feature_plane.center='running'",
        ),
        (
            lambda m: Probe(m, 'backbone', feature_plane=[{}, {}]),
            '2 configs, but layers has 1',
        ),
        (lambda m: EnergyMapHook(radial_bins=0), 'radial_bins=0'),
        (lambda m: AngleStatsHook(permutations=0), 'permutations=0'),
        (lambda m: SymmetryBreaking(bins=0), 'bins=0'),
        (lambda m: class_labels([dict()]), 'one gt_label each'),
        (
            lambda m: class_labels([dict(gt_label=torch.tensor([1, 2]))]),
            'single-label',
        ),
    ],
)
def test_wrong_options_are_refused(act, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        act(build(u1_config()))


@pytest.mark.parametrize('layers', [[0, 1], [0], [-2], [0, 'backbone.layer4']])
def test_positions_that_have_no_name_ask_for_one(layers):
    model = build(u1_config(neck=dict(layers=layers), out_indices=(1, 3)))
    with pytest.raises(ValueError, match='set layers to names'):
        Probe(model)


@pytest.mark.parametrize(
    'configured, probed, same',
    [
        ('auto', 'backbone.layer4', True),
        ('auto', 'backbone.layer4.1', True),
        ('auto', 'backbone.layer4.0', False),
        ('auto', 'backbone.layer4.1.norm2', False),  # changed in place later
        ([-1], 'auto', True),
        ([0], 'backbone.layer2', True),
        ([0], 'backbone.layer4', False),
        (['backbone.layer4'], 'auto', True),
        (['backbone.layer2'], 'auto', False),
    ],
)
def test_the_neck_s_plane_is_that_of_a_map_by_any_name(
    configured, probed, same
):
    plane = dict(center='running')
    neck = dict(layers=configured, feature_plane=plane)
    model = build(u1_config(neck=neck, out_indices=(1, 3)))
    model(images(), samples(), mode='loss')  # moves the centre
    model.eval()
    probe = Probe(model, probed, plane='feature')
    (layer,) = probe.layers
    (own,) = model.u1.neck.feature_planes
    vectors = torch.rand(5, own.in_channels)
    expected = (own if same else FeaturePlane())(vectors)
    torch.testing.assert_close(probe.feature_moment(layer, vectors), expected)


def test_what_is_not_in_the_neck_s_plane_is_told(caplog):
    neck = dict(feature_plane=dict(center='running'))
    model = build(u1_config(neck=neck))
    caplog.clear()
    with caplog.at_level('INFO', 'u1_plugin'):
        Probe(model), Probe(model, 'backbone.layer4')
        assert not caplog.text
        Probe(model, 'backbone.layer3', field='AngleStatsHook')
    assert "AngleStatsHook.layers: 'backbone.layer3' is none" in caplog.text


@pytest.mark.parametrize('windings', [(1,), (2, 1)])
def test_a_neck_of_pixels_is_measured_by_pixels(windings):
    plane = dict(center='running')
    neck = dict(of='pixel', feature_plane=plane, windings=windings)
    model = build(u1_config(neck=neck))
    model(images(), samples(), mode='loss')
    model.eval()
    probe = Probe(model, ['backbone.layer4', 'backbone.layer3'], 'feature')
    probe.attach()
    with torch.no_grad():
        model(images())
    found, maps = probe.moments(), probe.intensities()
    (trained,) = model.u1.neck([maps['backbone.layer4']])
    value = trained.value if len(windings) == 1 else trained.value[:, :, 1]
    length = (value.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    expected = (trained.pixel_share[..., None] * value / length).sum(1)
    measured = found[ProbedLayer('backbone.layer4', 'feature')]
    torch.testing.assert_close(measured, expected)
    pooled = FeaturePlane()(pooled_vector(maps['backbone.layer3']))
    other = found[ProbedLayer('backbone.layer3', 'feature')]
    torch.testing.assert_close(other, pooled)
    probe.detach()


def test_measuring_moves_no_centre():
    """A network in training mode counts a batch once, by its own loss."""
    neck = dict(feature_plane=dict(center='running'))
    model = build(u1_config(neck=neck)).train()
    plane = model.u1.neck.feature_planes[0]
    probe = Probe(model)
    probe.attach()
    before = {k: v.clone() for k, v in plane.state_dict().items()}
    with torch.no_grad():
        model(images())
    probe.moments(), probe.moments()
    after = plane.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert plane.training
    probe.detach()


def test_flat_maps_have_no_angle_in_the_image_plane():
    model = build(u1_config(neck=dict(plane='image'))).eval()
    probe = Probe(model)
    probe.attach()
    flat = model.backbone.layer4.register_forward_hook(
        lambda module, given, out: out.mean((2, 3), True).expand_as(out).clone()
    )
    with torch.no_grad():
        model(images(size=56))  # whose map has 7x7 pixels
    energies = probe.energies()['backbone']
    assert (energies > 0).all()
    assert image_moment(energies.float()).any()  # rounding
    assert not probe.moments()[ProbedLayer('backbone', 'image')].any()
    flat.remove()
    probe.detach()
