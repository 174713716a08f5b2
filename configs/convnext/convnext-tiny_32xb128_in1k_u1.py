_base_ = [
    'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py',
    '../_base_/u1_convnext.py',
]

model = dict(
    neck=dict(
        **_base_.u1_neck,
        neck=None,
        in_channels=_base_.model.head.in_channels,
    ),
    head=dict(_delete_=True, **_base_.u1_head, cls_head=_base_.model.head),
)
