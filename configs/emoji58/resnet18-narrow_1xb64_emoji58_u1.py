_base_ = './resnet18-narrow_1xb64_emoji58.py'

model = dict(type='u1_plugin.U1ImageClassifier')
