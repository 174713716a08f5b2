_base_ = './resnet18_8xb16_cifar100.py'

model = dict(type='u1_plugin.U1ImageClassifier')
