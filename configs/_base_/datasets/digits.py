# scikit-learn's scanned digits as an image folder; write it with
# `python tools/dataset_converters/digits.py data/digits`.
_base_ = './image_folder.py'

data_root = 'data/digits'
data_preprocessor = dict(num_classes=10)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16, interpolation='bicubic'),
    dict(type='RandomCrop', crop_size=16, padding=2),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16, interpolation='bicubic'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
