# Small images as class folders, with the splits train, val and test; who
# inherits it gives `data_root`, pipelines and the number of classes.
dataset_type = 'CustomDataset'
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)

# Such images load faster than a worker process starts.
loader = dict(num_workers=0, persistent_workers=False, pin_memory=False)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(type=dataset_type, data_prefix='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    **loader,
)
val_dataloader = dict(
    batch_size=256,
    dataset=dict(type=dataset_type, data_prefix='val'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)
test_dataloader = dict(
    batch_size=256,
    dataset=dict(type=dataset_type, data_prefix='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)

val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
