# Networks that end in a LayerNorm or leave their map without an activation:
# half of it is negative.
_base_ = ['./u1.py']

u1_neck = dict(orthant='abs')
