# Faces against other crops, by frozen ImageNet features without training. The
# images come from `python tools/dataset_converters/faces.py data/faces`, the
# weights as in the config that this one inherits.
_base_ = './efficientnet-lite0_memory_digits.py'
data_root = 'data/faces'

model = dict(head=dict(num_classes=2))
data_preprocessor = dict(num_classes=2)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
custom_hooks = [
    dict(
        type='MemoryBankHook',
        dataloader=dict(
            batch_size=64,
            num_workers=0,
            dataset=dict(
                type=_base_.dataset_type,
                data_root=data_root,
                data_prefix='train',
                pipeline=_base_.test_pipeline,
            ),
        ),
    )
]
