_base_ = ['mmpretrain::vgg/vgg16bn_8xb32_in1k.py', '../_base_/u1_vgg.py']

model = dict(
    neck=dict(
        _delete_=True,
        **_base_.u1_neck,
        neck=_base_.model.neck,
        in_channels=512,
    ),
    head=dict(_delete_=True, **_base_.u1_head, cls_head=_base_.model.head),
)
