# The first three stages of a ResNet-18 of an eighth of its width, on 14x14
# digits, for a laptop's CPU, with a last map of 4x4 pixels.
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../_base_/datasets/mnist10k.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        num_stages=3,
        base_channels=8,
        stem_channels=8,
        strides=(2, 2, 1),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    head=dict(in_channels=32),
)

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.3, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.3,
    by_epoch=True,
    convert_to_iter_based=True,
    total_steps=4,
)
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)

default_hooks = dict(
    logger=dict(interval=32), checkpoint=dict(interval=4, max_keep_ckpts=1)
)
randomness = dict(seed=0, deterministic=True)
