# A narrow Swin of two stages on 32x32 pixels, whose last map has 4x4 pixels: a
# transformer that a laptop's CPU trains in a minute or two.
_base_ = [
    'mmpretrain::_base_/models/swin_transformer/tiny_224.py',
    '../_base_/datasets/glyphs62.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        arch=dict(embed_dims=32, depths=[2, 2], num_heads=[2, 4]),
        img_size=32,
        patch_size=4,
        window_size=4,
        drop_path_rate=0.0,
        out_indices=(1,),
    ),
    head=dict(num_classes=62, in_channels=64),
    train_cfg=None,
)

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05))
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=4e-3,
    by_epoch=True,
    convert_to_iter_based=True,
    total_steps=10,
)
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)

default_hooks = dict(
    logger=dict(interval=32), checkpoint=dict(interval=10, max_keep_ckpts=1)
)
randomness = dict(seed=0, deterministic=True)
