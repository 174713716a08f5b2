# A quarter-width ResNet-18 on 16x16 digits: small enough for a laptop's CPU,
# with a last map of 4x4 pixels, so that the image plane has an extent.
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/one_cycle.py',
]

model = dict(
    backbone=dict(base_channels=16, stem_channels=16, strides=(1, 2, 2, 1)),
    head=dict(in_channels=128),
)

optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = dict(eta_max=0.1, total_steps=20)
train_cfg = dict(max_epochs=20, val_interval=5)
default_hooks = dict(logger=dict(interval=17), checkpoint=dict(interval=5))
