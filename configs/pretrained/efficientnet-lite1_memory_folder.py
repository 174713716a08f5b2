# EfficientNet-Lite1's ImageNet weights, at the size and the scale of timm's
# `pretrained_cfg`. They come from `python
# tools/model_converters/efficientnet_lite.py lite1 checkpoints/lite1.pth`.
# U1_SIZE is the side of the images in pixels, U1_DATA a folder of images.
_base_ = [
    '../_base_/datasets/memory_folder.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['u1_plugin'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='TIMMBackbone', model_name='tf_efficientnet_lite1'),
    neck=None,
    head=dict(
        type='MemoryBankHead',
        num_classes=58,
        in_channels=1280,
        k=10,
        mode='pixel',
        kappa=0.0,
    ),
)
data_preprocessor = dict(
    num_classes=58, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
)

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='Resize',
        scale=int('{{$U1_SIZE:240}}'),
        interpolation='bicubic',
        backend='pillow',
    ),
    dict(type='PackInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
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
randomness = dict(seed=0)
