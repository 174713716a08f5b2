_base_ = [
    '../_base_/models/resnet18_64px.py',
    '../_base_/datasets/glyphs62_64px.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=62))

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=1.0,
    by_epoch=True,
    convert_to_iter_based=True,
    total_steps=10,
)
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)

default_hooks = dict(
    logger=dict(interval=32), checkpoint=dict(interval=10, max_keep_ckpts=1)
)
randomness = dict(seed=0, deterministic=True)
