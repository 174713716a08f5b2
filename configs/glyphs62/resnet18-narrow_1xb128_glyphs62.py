_base_ = [
    '../_base_/models/resnet18_narrow.py',
    '../_base_/datasets/glyphs62.py',
    '../_base_/schedules/one_cycle.py',
]

model = dict(head=dict(num_classes=62))

optim_wrapper = dict(optimizer=dict(lr=1.0))
param_scheduler = dict(eta_max=1.0, total_steps=10)
train_cfg = dict(max_epochs=10, val_interval=10)
auto_scale_lr = dict(base_batch_size=128)
default_hooks = dict(checkpoint=dict(interval=10))
