# Oxford Flowers-102, prepared as MMPretrain prepares the birds of CUB.
# The official test split has more images than trainval.
_base_ = 'mmpretrain::_base_/datasets/cub_bs8_448.py'

data_preprocessor = dict(num_classes=102)

train_dataloader = dict(
    dataset=dict(
        type='Flowers102', data_root='data/Flowers102', split='trainval'
    )
)
val_dataloader = dict(
    dataset=dict(type='Flowers102', data_root='data/Flowers102')
)
test_dataloader = dict(
    dataset=dict(type='Flowers102', data_root='data/Flowers102')
)
