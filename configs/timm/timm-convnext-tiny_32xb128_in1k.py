# timm's ConvNeXt-T under MMPretrain's ConvNeXt-T recipe. It returns the map
# after the final LayerNorm, which MMPretrain's ConvNeXt applies after pooling.
_base_ = ['mmpretrain::convnext/convnext-tiny_32xb128_in1k.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='TIMMBackbone',
        model_name='convnext_tiny',
        drop_path_rate=0.1,
    ),
    neck=dict(type='GlobalAveragePooling'),
)
