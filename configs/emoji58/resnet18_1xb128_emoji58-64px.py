_base_ = [
    '../_base_/models/resnet18_64px.py',
    '../_base_/datasets/emoji58_64px.py',
    '../_base_/schedules/one_cycle.py',
]

model = dict(head=dict(num_classes=58))

auto_scale_lr = dict(base_batch_size=128)
