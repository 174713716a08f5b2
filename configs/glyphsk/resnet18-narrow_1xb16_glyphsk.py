_base_ = [
    '../_base_/models/resnet18_narrow.py',
    '../_base_/datasets/glyphsk.py',
    '../_base_/schedules/one_cycle.py',
]

model = dict(head=dict(num_classes=500))

optim_wrapper = dict(optimizer=dict(lr=0.1))

param_scheduler = dict(eta_max=0.1, total_steps=12)
train_cfg = dict(max_epochs=12, val_interval=12)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(checkpoint=dict(interval=12))
