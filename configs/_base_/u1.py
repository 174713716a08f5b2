# The method, once: what every `_u1` config adds to the one it inherits from.
# A config wraps its own neck and head by reference:
#
#   model = dict(
#       neck=dict(_delete_=True, **_base_.u1_neck, neck=_base_.model.neck,
#                 in_channels=_base_.model.head.in_channels),
#       head=dict(_delete_=True, **_base_.u1_head,
#                 cls_head=_base_.model.head))
#
# and one `--cfg-options` changes a choice, for example
# `model.head.loss_u1.loss_weight=0.3` (lambda) or `model.neck.plane=joint`.
custom_imports = dict(imports=['u1_plugin'], allow_failed_imports=False)

u1_neck = dict(
    type='BottleneckAngleNeck',
    layers=[-1],
    plane='feature',
    orthant='relu',
    feature_plane=dict(type='FeaturePlane', basis='fourier', center='none'),
)

u1_head = dict(
    type='U1ClsHead',
    loss_u1=dict(type='U1Loss', mode='cosine', loss_weight=0.1),
    class_angles=dict(type='ClassAngles', mode='random', seed=0),
)
