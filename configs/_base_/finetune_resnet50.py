# Model and schedule of MMPretrain's `resnet50_8xb8_cub.py`, without the data.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    'mmpretrain::_base_/schedules/cub_bs64.py',
    'mmpretrain::_base_/default_runtime.py',
]

# ImageNet-21k weights, as MMPretrain's CUB config takes them.
pretrained = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_3rdparty-mill_in21k_20220331-faac000b.pth'  # noqa: E501

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=pretrained, prefix='backbone'
        )
    )
)
default_hooks = dict(logger=dict(interval=20))
