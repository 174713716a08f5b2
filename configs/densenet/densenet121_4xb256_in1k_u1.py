_base_ = 'mmpretrain::densenet/densenet121_4xb256_in1k.py'

model = dict(type='u1_plugin.U1ImageClassifier')
