# The first three stages of a ResNet-18 of an eighth of its width, on 14x14
# digits, for a laptop's CPU, with a last map of 4x4 pixels.
_base_ = [
    'mmpretrain::_base_/models/resnet18_cifar.py',
    '../_base_/datasets/mnist10k.py',
    '../_base_/schedules/one_cycle.py',
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

param_scheduler = dict(total_steps=4)
train_cfg = dict(max_epochs=4, val_interval=1)
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(checkpoint=dict(interval=4))
