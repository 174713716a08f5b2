"""Which images were mirrored: what samples tell, and what they cannot."""

import pytest
from mmengine.config import Config
from mmpretrain.structures import DataSample

from u1_plugin.mm.flips import check_flips_of, flips_of


def flipped(**meta) -> list:
    return [DataSample(metainfo=meta)]


def test_flips():
    for meta, row in (
        (dict(flip=False, flip_direction=None), [False, False]),
        (dict(flip=True, flip_direction='horizontal'), [True, False]),
        (dict(flip=True, flip_direction='vertical'), [False, True]),
        (dict(flip=True, flip_direction='diagonal'), [True, True]),
    ):
        assert flips_of(flipped(**meta)).tolist() == [row]
    with pytest.raises(ValueError, match="flip='follow'.*meta_keys"):
        flips_of(flipped())
    with pytest.raises(ValueError, match="flip_direction='sideways'"):
        flips_of(flipped(flip=True, flip_direction='sideways'))
    with pytest.raises(ValueError, match=r'flip_direction=\[\]'):
        flips_of(flipped(flip=True, flip_direction=[]))
    with pytest.raises(ValueError, match='flip_direction=None'):
        flips_of(flipped(flip=True))


_FLIP = dict(type='RandomFlip', prob=0.5, direction='horizontal')


@pytest.mark.parametrize(
    'pipelines, count',
    [
        ([[_FLIP]], None),
        ([[_FLIP, dict(_FLIP, direction='vertical')]], 2),
        ([[_FLIP], [_FLIP]], None),  # of two data sets
        ([[_FLIP], [_FLIP] * 3], 3),
        ([[dict(_FLIP, type='mmcv.transforms.RandomFlip')] * 2], 2),
        ([[]], None),
        ([[_FLIP, dict(type='RandomApply', transforms=[_FLIP])]], 2),
        ([[dict(type='RandomChoice', transforms=[[_FLIP], [_FLIP]])]], None),
        (
            [[_FLIP, dict(type='RandomChoice', transforms=[[_FLIP], []])]],
            2,
        ),
        (
            [[dict(type='RandomChoice', transforms=[[_FLIP, _FLIP], [_FLIP]])]],
            2,
        ),
    ],
)
def test_a_second_flip_would_be_forgotten(pipelines, count):
    sets = [dict(type='CustomDataset', pipeline=p) for p in pipelines]
    config = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(type='ConcatDataset', datasets=sets)
            ),
            val_dataloader=dict(dataset=dict(pipeline=[_FLIP, _FLIP])),
        )
    )
    if count is None:
        check_flips_of(config.pretty_text)
    else:
        with pytest.raises(ValueError, match=f"follow'.*{count} times"):
            check_flips_of(config.pretty_text)


def mixing(inner: list, outer: list) -> dict:
    dataset = dict(type='CustomDataset', pipeline=inner)
    return dict(type='MultiImageMixDataset', dataset=dataset, pipeline=outer)


def test_flips_inside_and_around_a_data_set_add_up():
    for inner, outer, fits in (
        ([_FLIP], [], True),
        ([], [_FLIP], True),
        ([_FLIP], [_FLIP], False),
    ):
        loader = dict(dataset=mixing(inner, outer))
        text = Config(dict(train_dataloader=loader)).pretty_text
        if fits:
            check_flips_of(text)
        else:
            with pytest.raises(ValueError, match='2 times'):
                check_flips_of(text)


@pytest.mark.parametrize(
    'step',
    [
        dict(type='torchvision/RandomVerticalFlip', p=0.5),
        dict(type='Albumentations', transforms=[dict(type='HorizontalFlip')]),
        dict(type='RandomApply', transforms=[dict(type='albu.Transpose')]),
    ],
)
def test_flips_of_other_libraries_tell_nothing(step):
    dataset = dict(type='CustomDataset', pipeline=[_FLIP, step])
    text = Config(dict(train_dataloader=dict(dataset=dataset))).pretty_text
    with pytest.raises(ValueError, match='has .*(Flip|Transpose), of which'):
        check_flips_of(text)


def test_pipelines_that_come_later_are_checked():
    schedule = [dict(action_epoch=2, train_pipeline=[_FLIP, _FLIP])]
    hooks = [dict(type='SwitchRecipeHook', schedule=schedule)]
    config = Config(dict(custom_hooks=hooks))
    with pytest.raises(ValueError, match='2 times.*custom_hooks'):
        check_flips_of(config.pretty_text)
    schedule[0]['train_pipeline'].pop()
    check_flips_of(Config(dict(custom_hooks=hooks)).pretty_text)
