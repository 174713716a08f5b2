# MMPretrain's ResNet-50 recipe for ImageNet, on iNaturalist 2018.
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    '../_base_/datasets/inaturalist2018.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=8142))
