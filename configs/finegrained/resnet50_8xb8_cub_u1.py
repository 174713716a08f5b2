_base_ = 'mmpretrain::resnet/resnet50_8xb8_cub.py'

model = dict(type='u1_plugin.U1ImageClassifier')
