_base_ = 'mmpretrain::convnext/convnext-base_32xb128_in1k.py'

model = dict(type='u1_plugin.U1ImageClassifier')
