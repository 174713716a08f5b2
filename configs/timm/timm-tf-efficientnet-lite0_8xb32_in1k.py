# timm's EfficientNet-Lite0 under MMPretrain's EfficientNet-B0 recipe.
_base_ = ['mmpretrain::efficientnet/efficientnet-b0_8xb32_in1k.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='tf_efficientnet_lite0',
    )
)
