# Stanford Cars, prepared as MMPretrain prepares the birds of CUB.
_base_ = 'mmpretrain::_base_/datasets/cub_bs8_448.py'

data_preprocessor = dict(num_classes=196)

train_dataloader = dict(
    dataset=dict(type='StanfordCars', data_root='data/Stanford_Cars')
)
val_dataloader = dict(
    dataset=dict(type='StanfordCars', data_root='data/Stanford_Cars')
)
test_dataloader = dict(
    dataset=dict(type='StanfordCars', data_root='data/Stanford_Cars')
)
