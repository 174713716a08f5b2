_base_ = './resnet18-narrow_1xb64_clipart.py'

model = dict(type='u1_plugin.U1ImageClassifier')
