_base_ = 'mmpretrain::resnet/resnet50_8xb16_cifar100.py'

model = dict(type='u1_plugin.U1ImageClassifier')
