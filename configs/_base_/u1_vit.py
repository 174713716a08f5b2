# The patch tokens after the final LayerNorm are the map; the class token is
# left to the head.
_base_ = ['./u1_layernorm.py']

u1_neck = dict(layers=['backbone.ln1'], token_grid='backbone.patch_embed')
