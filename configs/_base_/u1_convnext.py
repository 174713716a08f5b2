# ConvNeXt pools inside the backbone and normalises the pooled vector. The map
# is its last stage's output, read there, so that the logits stay what they are.
_base_ = ['./u1_layernorm.py']

u1_neck = dict(layers=['backbone.stages.3'])
