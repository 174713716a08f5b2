# 500 letters of Latin, Cyrillic and Greek, at most 20 training images each, the
# typefaces of the test split unseen: many classes, few images.
# `tools/dataset_converters/glyphs.py --set scripts` draws them.
_base_ = './image_folder.py'

data_root = 'data/glyphsk'
data_preprocessor = dict(num_classes=500)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=2, pad_val=255),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=16, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
