_base_ = './resnet50_8xb8_food101.py'

model = dict(type='u1_plugin.U1ImageClassifier')
