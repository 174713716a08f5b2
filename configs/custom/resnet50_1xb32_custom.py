# Template: inherit it, and set the folder and the number of classes.
_base_ = ['../_base_/finetune_resnet50.py', '../_base_/datasets/custom.py']

model = dict(head=dict(num_classes=2, topk=(1,)))
