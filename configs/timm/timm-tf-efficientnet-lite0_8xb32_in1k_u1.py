_base_ = './timm-tf-efficientnet-lite0_8xb32_in1k.py'

model = dict(type='u1_plugin.U1ImageClassifier')
