_base_ = ['./resnet18-narrow_1xb128_mnist10k.py', '../_base_/u1.py']

model = dict(
    neck=dict(
        _delete_=True,
        **_base_.u1_neck,
        neck=_base_.model.neck,
        in_channels=_base_.model.head.in_channels,
    ),
    head=dict(_delete_=True, **_base_.u1_head, cls_head=_base_.model.head),
)
