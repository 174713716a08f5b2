_base_ = './resnet50_8xb32_inat2018.py'

model = dict(type='u1_plugin.U1ImageClassifier')
