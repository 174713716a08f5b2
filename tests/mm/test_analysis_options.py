"""Options of the analysis: checked early, named as the user wrote them."""

import re

import pytest
import torch
from helpers import build, u1_config

from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator
from u1_plugin.measure.probe import Probe
from u1_plugin.measure.vectors import VectorAccumulator
from u1_plugin.mm.hooks.angle_stats_hook import AngleStatsHook
from u1_plugin.mm.hooks.energy_map_hook import EnergyMapHook
from u1_plugin.mm.hooks.measure_class_angles_hook import (
    MeasureClassAnglesHook,
    class_angles_of,
)
from u1_plugin.mm.launch import CPUAmpOptimWrapper
from u1_plugin.mm.symmetry_breaking import SymmetryBreaking

NAN = float('nan')


@pytest.mark.parametrize(
    'kind, options',
    [
        (EnergyMapHook, dict(radial_bins=1)),
        (EnergyMapHook, dict(radial_bins=2.0)),
        (EnergyMapHook, dict(layers=5)),
        (EnergyMapHook, dict(layers=[])),
        (EnergyMapHook, dict(layers=['backbone', 'backbone'])),
        (EnergyMapHook, dict(layers=[0])),
        (EnergyMapHook, dict(orthant='cube')),
        (EnergyMapHook, dict(token_grid=7)),
        (AngleStatsHook, dict(bins=0)),
        (AngleStatsHook, dict(bins=NAN)),
        (AngleStatsHook, dict(bins=True)),
        (AngleStatsHook, dict(permutations=0)),
        (AngleStatsHook, dict(permutations='199')),
        (AngleStatsHook, dict(plane='hue')),
        (AngleStatsHook, dict(plane=None)),
        (AngleStatsHook, dict(feature_plane='fourier')),
        (AngleStatsHook, dict(feature_plane=dict(basis='pcb'))),
        (AngleStatsHook, dict(feature_plane=dict(center='running'))),
        (SymmetryBreaking, dict(bins=0)),
        (SymmetryBreaking, dict(permutations=-3)),
        (SymmetryBreaking, dict(plane=['image'])),
        (SymmetryBreaking, dict(prefix=1)),
        (SymmetryBreaking, dict(layers=[])),
        (MeasureClassAnglesHook, dict(orthant='cube')),
        (MeasureClassAnglesHook, dict(orthant=1)),
        (Probe, dict(plane='both')),
        (Probe, dict(layers=3)),
        (EnergyAccumulator, dict(radial_bins=1)),
        (EnergyAccumulator, dict(groups=1)),
        (EnergyAccumulator, dict(groups=2.5)),
        (AngleAccumulator, dict(num_classes=0)),
        (AngleAccumulator, dict(num_classes=NAN)),
        (AngleAccumulator, dict(bins='36')),
    ],
)
def test_options_are_checked_when_the_config_is_built(kind, options):
    (name,) = options
    more = {}
    if kind is Probe:
        more = dict(model=torch.nn.Identity())
    elif kind is AngleAccumulator:
        more = dict(num_classes=3)
    with pytest.raises(ValueError, match=rf'^{kind.__name__}\.{name}'):
        kind(**{**more, **options})


@pytest.mark.parametrize('dtype', ['float16', None, 16])
def test_cpus_autocast_to_bfloat16(dtype):
    with pytest.raises(ValueError, match='optim_wrapper.dtype='):
        CPUAmpOptimWrapper(dtype=dtype, optimizer=None)


@pytest.mark.parametrize(
    'moments, labels',
    [
        (torch.ones(2, 2), torch.tensor([0, -1])),
        (torch.ones(2, 2), torch.tensor([0, 3])),
        (torch.ones(2, 2), torch.tensor([0])),
        (torch.ones(2, 2), torch.tensor([0, 1, 1])),
        (torch.ones(2, 2), torch.tensor([0.0, 1.0])),
        (torch.ones(2, 2), torch.tensor([True, False])),
        (torch.ones(2, 2), torch.tensor([[0, 1, 0], [1, 0, 0]])),
        (torch.ones(2, 2), torch.tensor(1)),
        (torch.ones(2, 3), torch.tensor([0, 1])),
        (torch.ones(2), torch.tensor([0, 1])),
    ],
)
def test_labels_that_do_not_fit_are_no_other_class(moments, labels):
    total = AngleAccumulator(3)
    total.update(torch.ones(1, 2), torch.tensor([2]))
    before = total.state()
    with pytest.raises(ValueError, match='label|moments'):
        total.update(moments, labels)
    assert all((total.state()[n] == v).all() for n, v in before.items())


@pytest.mark.parametrize(
    'act',
    [
        lambda: EnergyAccumulator().update(torch.ones(4, 4)),
        lambda: EnergyAccumulator().update(
            torch.ones(2, 4, 4), torch.tensor([1])
        ),
        lambda: EnergyAccumulator().update(
            torch.ones(2, 4, 4), torch.tensor([0.0, 1.0])
        ),
        lambda: EnergyAccumulator().update(torch.ones(2, 4, 4) * 1j),
        lambda: AngleAccumulator(1).update(
            torch.ones(2, 2) * 1j, torch.zeros(2).long()
        ),
        lambda: VectorAccumulator().update(torch.ones(2, 3, 4, 4)),
        lambda: VectorAccumulator().update(torch.ones(2, 3) * 1j),
        lambda: VectorAccumulator().update(torch.ones(2, 0)),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_refused(act):
    with pytest.raises(ValueError, match='give'):
        act()


def test_lists_are_no_tensors():
    with pytest.raises(ValueError, match=r'Accumulator.labels=\[0\] must be'):
        AngleAccumulator(1).update(torch.ones(1, 2), [0])


@pytest.mark.parametrize('kind', [torch.uint8, torch.int32])
def test_labels_and_numbers_of_any_integers(kind):
    labels = torch.arange(9)
    moments = torch.stack([labels - 4.5, labels * 0.3], 1)
    wanted, found = AngleAccumulator(9), AngleAccumulator(9)
    wanted.update(moments, labels)
    found.update(moments, labels.to(kind))  # 9 x 36 cells are no byte
    assert (wanted.state()['table'] == found.state()['table']).all()
    wanted, found = EnergyAccumulator(), EnergyAccumulator()
    wanted.update(torch.ones(9, 3, 3), labels)
    found.update(torch.ones(9, 3, 3), labels.to(kind))
    assert (wanted.state()['images'] == found.state()['images']).all()


def test_images_are_counted_on_after_a_batch():
    """Groups of images are those of one go, dark ones among them."""
    maps = torch.rand(30, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[3] = 0
    whole, parts = EnergyAccumulator(), EnergyAccumulator()
    whole.update(maps)
    parts.update(maps[:7])
    parts.update(maps[7:])
    for name, value in whole.state().items():
        torch.testing.assert_close(
            torch.from_numpy(parts.state()[name]), torch.from_numpy(value)
        )


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(layers='backbone.nine'), "AngleStatsHook.layers='backbone.nine'"),
        (dict(layers=['head.fc']), "AngleStatsHook.layers: 'head.fc'"),
        (
            dict(token_grid='backbone.x'),
            "AngleStatsHook.token_grid='backbone.x'",
        ),
        (dict(token_grid=''), "AngleStatsHook.token_grid='' must name"),
        (
            dict(layers=['backbone'], feature_plane=[{}, {}]),
            'AngleStatsHook.feature_plane has 2 configs',
        ),
        (
            dict(feature_plane=[{}, {}]),
            'AngleStatsHook.feature_plane has 2 configs',
        ),
    ],
)
def test_layers_are_named_as_in_the_config(options, words):
    model = build(u1_config())
    with pytest.raises(ValueError, match='^' + re.escape(words)):
        Probe(model, **options, field='AngleStatsHook')


def test_a_layer_that_does_not_run_is_named_as_in_the_config():
    model = build(u1_config()).eval()
    for options, name in (
        (dict(layers='backbone.layer2'), 'EnergyMapHook.layers'),
        (dict(), 'u1.neck.layers'),  # those of the branch
    ):
        probe = Probe(model, **options, field='EnergyMapHook')
        probe.attach()
        with pytest.raises(ValueError, match=f'^{name}: .* did not run'):
            probe.energies()
        probe.detach()


def test_class_angles_say_what_is_wrong_with_labels_and_vectors():
    vectors = torch.eye(6)[torch.arange(12) % 6] + 0.1
    labels = torch.arange(12) % 3
    plain = class_angles_of(vectors, labels, 3)
    for bad in (-1, 3):
        wrong = labels.clone()
        wrong[0] = bad
        with pytest.raises(ValueError, match=f'{bad}'):
            class_angles_of(vectors, wrong, 3)
    with pytest.raises(ValueError, match='12 vectors but 11 labels'):
        class_angles_of(vectors, labels[1:], 3)
    # Dead or broken images have no angle, and change that of no class.
    more = torch.cat([vectors, torch.zeros(1, 6), torch.full((1, 6), NAN)])
    again = class_angles_of(more, torch.cat([labels, torch.zeros(2).long()]), 3)
    assert again == plain
    with pytest.raises(ValueError, match=r'\[2\]'):
        class_angles_of(vectors, labels.clamp(max=1), 3)
