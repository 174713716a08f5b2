_base_ = './timm-convnext-tiny_32xb128_in1k.py'

model = dict(type='u1_plugin.U1ImageClassifier')
