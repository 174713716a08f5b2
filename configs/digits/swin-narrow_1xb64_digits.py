# A narrow Swin of two stages on 32x32 digits, whose last map has 4x4 pixels:
# a transformer that a laptop's CPU trains in a minute.
_base_ = [
    'mmpretrain::_base_/models/swin_transformer/tiny_224.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/one_cycle.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        arch=dict(embed_dims=64, depths=[2, 4], num_heads=[2, 4]),
        img_size=32,
        patch_size=4,
        window_size=4,
        drop_path_rate=0.0,
        out_indices=(1,),
    ),
    head=dict(num_classes=10, in_channels=128),
    train_cfg=None,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32, interpolation='bicubic'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32, interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.05)
)
param_scheduler = dict(eta_max=2e-3, total_steps=40)
train_cfg = dict(max_epochs=40, val_interval=10)
default_hooks = dict(logger=dict(interval=17), checkpoint=dict(interval=10))
