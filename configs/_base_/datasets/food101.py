# Food-101, prepared as MMPretrain prepares the birds of CUB.
_base_ = 'mmpretrain::_base_/datasets/cub_bs8_448.py'

data_preprocessor = dict(num_classes=101)

train_dataloader = dict(dataset=dict(type='Food101', data_root='data/food-101'))
val_dataloader = dict(dataset=dict(type='Food101', data_root='data/food-101'))
test_dataloader = dict(dataset=dict(type='Food101', data_root='data/food-101'))
