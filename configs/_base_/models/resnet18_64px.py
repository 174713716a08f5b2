# ResNet-18 of full width on 64x64 pixels; the last stage keeps its size, so
# that the last map has 4x4 pixels and 512 channels.
_base_ = 'mmpretrain::_base_/models/resnet18.py'

model = dict(
    backbone=dict(strides=(1, 2, 2, 1)),
    head=dict(
        _delete_=True,
        type='LinearClsHead',
        num_classes=10,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
