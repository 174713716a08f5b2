_base_ = 'mmpretrain::resnet/resnet50_8xb16_cifar10.py'

model = dict(type='u1_plugin.U1ImageClassifier')
