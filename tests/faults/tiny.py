"""Real commands on scanned digits, small enough to be killed 200 times."""

import hashlib
import json
import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch
import yaml
from chains import Command
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import MODELS

import u1_plugin.lab  # noqa: F401  (registers its hooks)
from u1_plugin.mm.launch import run_mmpretrain_tool

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 3
#: What may differ between two runs of the same command.
_COST = {'wall_s', 'cpu_s', 'peak_rss_mib', 'peak_cuda_mib', 'resumed'}
_U1 = {'model.type': 'U1ImageClassifier'}
_AUGMENTED = {
    'model.train_cfg': dict(augments=dict(type='Mixup', alpha=0.8)),
    'model.head': dict(
        _delete_=True,
        type='StackedLinearClsHead',
        num_classes=10,
        in_channels=32,
        mid_channels=[16],
        dropout_rate=0.3,
        topk=(1,),
    ),
}


def config(data: Path, options: Optional[dict] = None) -> Config:
    """The project's digits config, narrower and shorter."""
    tiny = Config.fromfile(
        ROOT / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    )
    for split in ('train', 'val', 'test'):
        tiny[f'{split}_dataloader'].dataset.data_root = str(data)
    tiny.merge_from_dict(
        {
            'model.backbone.base_channels': 4,
            'model.backbone.stem_channels': 4,
            'model.head.in_channels': 32,
            'train_dataloader.batch_size': 10,
            'train_cfg': dict(max_epochs=EPOCHS, val_interval=1),
            'param_scheduler.total_steps': EPOCHS,
            'default_hooks.checkpoint.interval': 1,
            **(options or {}),
        }
    )
    return tiny


def written(tiny: Config, file: Path) -> Path:
    file.write_text(
        ''.join(f'{k} = {v!r}\n' for k, v in tiny.to_dict().items())
    )
    return file


def free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def tool(name: str, *argv: Any) -> None:
    """Call one of the project's tools as its command line does."""
    sys.argv = [name, *map(str, argv)]
    path = ROOT / 'tools' / name
    if name in ('train.py', 'test.py'):
        run_mmpretrain_tool(name)
    else:
        runpy.run_path(str(path), run_name='__main__')


def ranks(count: int, name: str, *argv: Any) -> List[Callable]:
    """A tool's processes, as `torchrun` would start them."""
    if count == 1:
        return [lambda folder: tool(name, *argv)]

    def start(rank: int) -> Callable[[Path], None]:
        def run(folder: Path) -> None:
            port = str(30000 + os.getppid() % 10000)
            os.environ.update(
                MASTER_ADDR='127.0.0.1',
                MASTER_PORT=os.environ.get('U1_TEST_PORT', port),
                WORLD_SIZE=str(count),
                RANK=str(rank),
                LOCAL_RANK=str(rank),
            )
            tool(name, *argv, '--launcher', 'pytorch')

        return run

    return [start(rank) for rank in range(count)]


def digest(value: Any) -> str:
    """Of tensors, arrays, and what holds them."""
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            part = part.numpy()
        if isinstance(part, np.ndarray):
            found.update(f'{part.dtype},{part.shape}'.encode())
            found.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, dict):
            for key in sorted(part, key=str):
                found.update(str(key).encode())
                add(part[key])
        elif isinstance(part, (list, tuple)):
            for each in part:
                add(each)
        else:
            found.update(repr(part).encode())

    add(value)
    return found.hexdigest()


def run_state(folder: Path) -> Dict[str, object]:
    """Of every training below a folder: weights, records, outputs."""
    state: Dict[str, object] = {}
    for file in sorted(folder.rglob('*')):
        name = str(file.relative_to(folder))
        if file.suffix == '.pth':
            content = CheckpointLoader.load_checkpoint(str(file), 'cpu')
            for part in ('state_dict', 'optimizer', 'ema_state_dict'):
                state[f'{name} {part}'] = digest(content.get(part))
        elif file.name == 'run_record.json':
            record = json.loads(file.read_text())
            for key in set(record) - _COST:
                state[f'{name} {key}'] = record[key]
        elif file.suffix == '.npz':
            with np.load(file) as content:
                state[name] = digest(dict(content))
        # MMEngine's own folder of a test that was killed is no run's.
        elif 'part' in file.name and '.dist_test' not in file.parts:
            state[name] = 'unfinished'
    return state


def training(data: Path, name: str, count: int, options: dict) -> Command:
    """`tools/train.py --resume` with the hooks of a benchmark's run."""
    hooks = options.pop('custom_hooks', [])
    tiny = config(data, {**_U1, **_AUGMENTED, **options})
    tiny.custom_hooks = [
        dict(type='SampleSeedHook'),
        dict(type='DivergenceHook'),
        *hooks,
        dict(type='RunRecordHook', identity=dict(name=name)),
    ]
    file = written(tiny, data / f'{name.replace(" ", "-")}.py')
    argv = ('train.py', file, '--work-dir', 'run', '--resume')
    return Command(name, ranks(count, *argv), run_state)


def plain_training(data: Path, name: str) -> Command:
    """The same without any hook of the plugin, and nothing that is drawn."""
    tiny = config(data)
    del tiny.train_dataloader.dataset.pipeline[2]  # RandomCrop
    file = written(tiny, data / 'plain.py')
    argv = ('train.py', file, '--work-dir', 'run', '--resume')
    return Command(name, ranks(1, *argv), run_state)


def suite_file(folder: Path, data: Path, **changes: Any) -> Path:
    """A suite of two arms with two seeds, in a new folder."""
    folder.mkdir()
    written(config(data, _AUGMENTED), folder / 'tiny.py')
    suite = dict(
        name='tiny',
        configs=[dict(config=str(folder / 'tiny.py'), name='tiny')],
        seeds=2,
        arms=['one-hot', 'u1'],
        define={
            'one-hot': dict(role='baseline'),
            'u1': dict(role='u1', set=dict(_U1)),
        },
    )
    file = folder / 'suite.yml'
    file.write_text(yaml.safe_dump({**suite, **changes}))
    return file


def benchmark_state(place: Path) -> Dict[str, object]:
    """Of the runs, and how many the table has."""
    found = run_state(place)
    for each in place.rglob('class_angles.json'):
        found[str(each.relative_to(place))] = each.read_text()
    header, *rows = (place / 'out/results.csv').read_text().splitlines()
    found['results.csv'] = [header, len(rows)]
    return found


def benchmark(data: Path, name: str, **changes: Any) -> Command:
    """`tools/benchmark.py`, two runs at a time."""
    folder = data / f'suite{len(list(data.glob("suite*")))}'
    file = suite_file(folder, data, **changes)
    argv = ('benchmark.py', file, '--out', 'out', '--workers', 2)
    return Command(name, ranks(1, *argv), benchmark_state)


#: An arm that needs another's class angles.
MEASURED = dict(role='u1', measured='one-hot', set=dict(_U1))
U1 = dict(role='u1', set=dict(_U1))


def bank(data: Path, name: str, count: int) -> Command:
    """`tools/test.py` with a memory that is filled and kept in a file."""
    tiny = config(data)
    tiny.model = dict(
        type='ImageClassifier',
        backbone=tiny.model.backbone,
        neck=None,
        head=dict(
            type='MemoryBankHead',
            num_classes=10,
            in_channels=32,
            k=3,
            mode='pixel',
        ),
    )
    tiny.custom_hooks = [dict(type='MemoryBankHook', file='bank.safetensors')]
    # One by one, so that filling takes its time.
    tiny.train_dataloader.batch_size = 1
    file = written(tiny, data / f'bank{count}.py')
    torch.manual_seed(0)
    weights = data / f'bank{count}.pth'
    torch.save(dict(state_dict=MODELS.build(tiny.model).state_dict()), weights)
    argv = ('test.py', file, weights, '--work-dir', 'run')
    argv += ('--out', 'found.json', '--out-item', 'metrics')

    def state(place: Path) -> Dict[str, object]:
        metrics = json.loads((place / 'found.json').read_text())
        banks = {each.name: each.read_bytes() for each in place.glob('bank*')}
        return {'accuracy': metrics['accuracy/top1'], **banks}

    return Command(name, ranks(count, *argv), state)


def analysis(data: Path, name: str) -> Command:
    """`tools/analyze_bottleneck.py`, whose report is there whole or not."""
    file = written(config(data), data / 'analysis.py')
    argv = ('analyze_bottleneck.py', file, '--untrained', '--out', 'out')
    argv += ('--permutations', 99, '--control-images', 3)

    def state(place: Path) -> Dict[str, object]:
        return {
            str(each.relative_to(place)): each.read_bytes()
            for each in (place / 'out').rglob('*')
            if each.is_file() and each.suffix in ('.json', '.npz')
        } | {'files': sorted(e.name for e in (place / 'out').rglob('*'))}

    (analyze,) = ranks(1, *argv)

    def start(place: Path) -> None:
        # The tool asks for a new folder, and one that is there is whole.
        if not (place / 'out').exists():
            analyze(place)

    return Command(name, [start], state)
