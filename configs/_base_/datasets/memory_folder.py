# Any image folder of class folders with the splits train, val and test, for
# networks that are not trained: U1_DATA=data/clipart names another one. The
# network's config gives the pipeline.
dataset_type = 'CustomDataset'
data_root = '{{$U1_DATA:data/emoji58}}'

loader = dict(
    batch_size=64, num_workers=0, persistent_workers=False, pin_memory=False
)
val_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='val'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)
test_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)
val_cfg = dict()
test_cfg = dict()
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

# The training images are memorised; MMEngine asks for an optimiser beside a
# `train_dataloader`, and there is nothing to optimise.
train_dataloader = None
