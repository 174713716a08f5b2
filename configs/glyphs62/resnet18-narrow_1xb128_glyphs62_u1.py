_base_ = './resnet18-narrow_1xb128_glyphs62.py'

model = dict(type='u1_plugin.U1ImageClassifier')
