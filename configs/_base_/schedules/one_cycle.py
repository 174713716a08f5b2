# SGD under one cycle of the learning rate, with validation at the end alone:
# the schedule of the small data sets, most of which change lr and epochs.
_base_ = 'mmpretrain::_base_/default_runtime.py'

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.3, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.3,
    by_epoch=True,
    convert_to_iter_based=True,
    total_steps=30,
)
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=30)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)

default_hooks = dict(
    logger=dict(interval=32), checkpoint=dict(interval=30, max_keep_ckpts=1)
)
randomness = dict(seed=0, deterministic=True)
