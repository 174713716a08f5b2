_base_ = ['../_base_/finetune_resnet50.py', '../_base_/datasets/food101.py']

model = dict(head=dict(num_classes=101))
