"""Options that another option leaves unread are spoken of, not refused."""

import pytest

from u1_plugin.nn import ClassAngles, FeaturePlane, U1Loss

CASES = [
    (U1Loss, dict(kappa=5.0), 'loss.kappa=5.0', "loss.mode='cosine'"),
    (
        ClassAngles,
        dict(num_classes=4, mode='uniform', seed=3),
        'class_angles.seed=3',
        "class_angles.mode='uniform'",
    ),
    (
        FeaturePlane,
        dict(seed=2),
        'feature_plane.seed=2',
        "feature_plane.basis='fourier'",
    ),
    (
        FeaturePlane,
        dict(momentum=0.5),
        'feature_plane.momentum=0.5',
        "feature_plane.center='none'",
    ),
]
READ = [
    (U1Loss, dict(mode='von_mises', kappa=5.0)),
    (U1Loss, dict(mode='mse', kappa=1.0)),
    (ClassAngles, dict(num_classes=4, seed=3)),
    (ClassAngles, dict(num_classes=4, mode='uniform', windings=2, seed=3)),
    (FeaturePlane, dict(basis='random', seed=2)),
    (FeaturePlane, dict(in_channels=8, basis='learned', seed=2)),
    (FeaturePlane, dict(in_channels=8, center='running', momentum=0.5)),
]


@pytest.mark.parametrize('kind, options, field, reason', CASES)
def test_an_option_that_is_not_read_is_named(
    kind, options, field, reason, messages
):
    kind(**options)
    (message,) = messages
    assert field in message and reason in message


@pytest.mark.parametrize('kind, options', READ)
def test_an_option_that_is_read_is_not_spoken_of(kind, options, messages):
    kind(**options)
    assert not messages
