_base_ = './swin-narrow_1xb32_glyphs62.py'

model = dict(type='u1_plugin.U1ImageClassifier')
