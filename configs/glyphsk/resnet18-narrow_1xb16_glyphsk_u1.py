_base_ = './resnet18-narrow_1xb16_glyphsk.py'

model = dict(type='u1_plugin.U1ImageClassifier')
