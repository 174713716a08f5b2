_base_ = 'mmpretrain::deit/deit-small_4xb256_in1k.py'

model = dict(type='u1_plugin.U1ImageClassifier')
