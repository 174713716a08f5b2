# A narrow Swin of two stages on 32x32 pixels, whose last map has 4x4 pixels: a
# transformer that a laptop's CPU trains in a minute or two.
_base_ = [
    'mmpretrain::_base_/models/swin_transformer/tiny_224.py',
    '../_base_/datasets/glyphs62.py',
    '../_base_/schedules/one_cycle.py',
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

train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=4e-3, weight_decay=0.05)
)
param_scheduler = dict(eta_max=4e-3, total_steps=10)
train_cfg = dict(max_epochs=10, val_interval=10)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(checkpoint=dict(interval=10))
