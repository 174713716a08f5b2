# 500 letters of Latin, Cyrillic and Greek, at most 20 training images each, the
# typefaces of the test split unseen: many classes, few images.
# `tools/dataset_converters/glyphs.py --set scripts` draws them.
dataset_type = 'CustomDataset'
data_root = 'data/glyphsk'
data_preprocessor = dict(
    num_classes=500, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=2, pad_val=255),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
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
    batch_size=256,
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
    batch_size=256,
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
