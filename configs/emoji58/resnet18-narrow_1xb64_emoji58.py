_base_ = [
    '../_base_/models/resnet18_narrow.py',
    '../_base_/datasets/emoji58.py',
    '../_base_/schedules/one_cycle.py',
]

model = dict(head=dict(num_classes=58))
