# ResNet-50's CIFAR-100 recipe of MMPretrain with the smaller network.
_base_ = ['mmpretrain::resnet/resnet50_8xb16_cifar100.py']

model = dict(backbone=dict(depth=18), head=dict(in_channels=512))
