# 62 letters and digits in 180 families of typefaces, those of the test split
# unseen; `tools/dataset_converters/glyphs.py` says how to draw them.
_base_ = './image_folder.py'

data_root = 'data/glyphs62'
data_preprocessor = dict(num_classes=62)

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
    batch_size=128, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
