# Emoji of Unicode's 58 larger subcategories by two drawers, those of the test
# split unseen; `tools/dataset_converters/emoji.py` writes them. The folder
# `drawer` has the test split's emoji by a third hand.
_base_ = './image_folder.py'

data_root = 'data/emoji58'
data_preprocessor = dict(num_classes=58)

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
