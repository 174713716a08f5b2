"""A suite small enough to be run."""

CONFIG = 'digits/resnet18-narrow_1xb64_digits.py'
ARMS = ['one-hot', 'u1-feature', 'u1-measured', 'u1-zero', 'arcface']
GOOD = dict(
    name='mini',
    prepare=[['dataset_converters/digits.py', 'data/digits']],
    configs=[
        dict(
            config=CONFIG,
            set={
                'model.backbone.base_channels': 4,
                'model.backbone.stem_channels': 4,
                'model.head.in_channels': 32,
                'train_cfg.max_epochs': 2,
                'train_cfg.val_interval': 1,
                'param_scheduler.total_steps': 2,
                'train_dataloader.dataset.indices': list(range(0, 1000, 9)),
                'val_dataloader.dataset.indices': 50,
                'test_dataloader.dataset.indices': 40,
            },
        )
    ],
    seeds=2,
    arms=ARMS,
    ablations=dict(
        seeds=1, set={'lambda-1': {'model.u1.loss.loss_weight': 1.0}}
    ),
)
