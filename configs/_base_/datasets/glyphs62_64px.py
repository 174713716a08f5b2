# The letters and digits of `glyphs62`, drawn twice as large;
# `tools/dataset_converters/glyphs.py --side 64` writes them.
_base_ = './glyphs62.py'

data_root = 'data/glyphs62_64'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, padding=4, pad_val=255),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
