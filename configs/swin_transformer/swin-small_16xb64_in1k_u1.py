_base_ = 'mmpretrain::swin_transformer/swin-small_16xb64_in1k.py'

model = dict(type='u1_plugin.U1ImageClassifier')
