_base_ = './resnet18_1xb128_glyphs62-64px.py'

model = dict(type='u1_plugin.U1ImageClassifier')
