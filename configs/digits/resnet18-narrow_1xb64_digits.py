# A quarter-width ResNet-18 on 16x16 digits: small enough for a laptop's CPU,
# with a last map of 4x4 pixels, so that the image plane has an extent.
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../_base_/datasets/digits.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(base_channels=16, stem_channels=16, strides=(1, 2, 2, 1)),
    head=dict(in_channels=128),
)

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    by_epoch=True,
    convert_to_iter_based=True,
    total_steps=20,
)
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=5)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)

default_hooks = dict(
    logger=dict(interval=17), checkpoint=dict(interval=5, max_keep_ckpts=1)
)
randomness = dict(seed=0, deterministic=True)
