_base_ = 'mmpretrain::resnet/resnet50_8xb256-rsb-a3-100e_in1k.py'

model = dict(type='u1_plugin.U1ImageClassifier')
