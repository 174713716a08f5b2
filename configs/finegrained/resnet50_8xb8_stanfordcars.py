_base_ = [
    '../_base_/finetune_resnet50.py',
    '../_base_/datasets/stanford_cars.py',
]

model = dict(head=dict(num_classes=196))
