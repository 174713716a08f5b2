# Networks that end in a LayerNorm or leave their map without an activation:
# half of it is negative. What becomes of that half is decided here; on digits
# no other choice carries more class information than ReLU
# (docs/add_u1_to_your_model.md).
_base_ = ['./u1.py']

u1_neck = dict(orthant='relu')
