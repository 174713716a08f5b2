_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'

model = dict(type='u1_plugin.U1ImageClassifier')
