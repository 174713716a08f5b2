# Digits by frozen ImageNet features: no training at all. The weights come from
# `python tools/model_converters/efficientnet_lite.py lite0 WEIGHTS.pth`; then
# `python tools/test.py THIS WEIGHTS.pth`.
_base_ = [
    '../_base_/datasets/digits.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['u1_plugin'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='TIMMBackbone', model_name='tf_efficientnet_lite0'),
    neck=None,
    head=dict(
        type='MemoryBankHead',
        num_classes=10,
        in_channels=1280,
        k=10,
        mode='pixel',
        kappa=0.0,
    ),
)
# What these weights were trained with.
data_preprocessor = dict(
    _delete_=True,
    num_classes=10,
    mean=[127.0] * 3,
    std=[128.0] * 3,
    to_rgb=True,
)

# A last map of 4x4 pixels.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=128, interpolation='bicubic'),
    dict(type='PackInputs'),
]
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
val_cfg = dict()
test_cfg = dict()

# The training images are memorised; MMEngine asks for an optimiser beside a
# `train_dataloader`, and there is nothing to optimise.
custom_hooks = [
    dict(
        type='MemoryBankHook',
        dataloader=dict(
            batch_size=64,
            num_workers=0,
            dataset=dict(
                type=_base_.dataset_type,
                data_root=_base_.data_root,
                data_prefix='train',
                pipeline=test_pipeline,
            ),
        ),
    )
]
train_dataloader = None
randomness = dict(seed=0)
