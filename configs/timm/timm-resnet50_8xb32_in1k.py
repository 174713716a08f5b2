# timm's ResNet-50 under MMPretrain's ResNet-50 recipe.
_base_ = ['mmpretrain::resnet/resnet50_8xb32_in1k.py']

model = dict(
    backbone=dict(_delete_=True, type='TIMMBackbone', model_name='resnet50')
)
