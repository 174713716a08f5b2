_base_ = './resnet50_1xb32_custom.py'

model = dict(type='u1_plugin.U1ImageClassifier')
