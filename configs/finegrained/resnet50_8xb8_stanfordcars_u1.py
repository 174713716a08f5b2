_base_ = './resnet50_8xb8_stanfordcars.py'

model = dict(type='u1_plugin.U1ImageClassifier')
