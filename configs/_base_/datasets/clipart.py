# Drawings of 22 categories of Open Clip Art, series and variants undivided;
# `tools/dataset_converters/clipart.py` writes them.
_base_ = './image_folder.py'

data_root = 'data/clipart'
data_preprocessor = dict(num_classes=22)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32, interpolation='area'),
    dict(type='RandomCrop', crop_size=32, padding=4, pad_val=255),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32, interpolation='area'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
