"""How much of a backbone's own rate is left while it fills a memory.

The same batches run through the same frozen network, in turns whose order
rotates and turns: forward alone, filling a bank in memory, filling one on disk
(with its checksum and all at the end). Ratios are paired: each turn's forward
seconds by the same turn's filling seconds, so 1 means that the filling costs
nothing. Without a GPU, seconds are the processor's, which other processes
lengthen less than the clock's.
"""

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import ContextManager, Dict, List

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import ResNet
from mmpretrain.registry import MODELS
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import u1_plugin  # noqa: F401  (registers the components)
from u1_plugin.files import new_file, new_path
from u1_plugin.lab.alternation import now, order_of
from u1_plugin.lab.command import at_least
from u1_plugin.memory import MemoryBank, bank_on_disk

ARMS = ('forward', 'in memory', 'on disk')
_CLASSES = 10


def built(options: argparse.Namespace, device: str) -> nn.Module:
    """MMPretrain's ResNet with an empty memory, in eval mode."""
    config = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=options.depth),
        head=dict(
            type='MemoryBankHead',
            num_classes=_CLASSES,
            in_channels=512 if options.depth < 50 else 2048,
            mode=options.mode,
            dtype=options.dtype,
        ),
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config).eval().to(device)


@torch.no_grad()
def epoch(
    model: nn.Module, batches: List[Tensor], arm: str, folder: Path
) -> float:
    """Seconds of all batches."""
    head = model.head
    place: ContextManager = nullcontext(MemoryBank(head.dtype))
    file = folder / 'bank.safetensors'
    start, number = now(), 0
    if arm == 'on disk':
        place = bank_on_disk(file, head.dtype)
    with place as bank:
        head.set_bank(bank)
        for inputs in batches:
            feats = model.extract_feat(inputs)
            if arm != 'forward':
                images = torch.arange(number, number + len(inputs))
                head.fill(feats, images % _CLASSES, images)
                number += len(inputs)
    seconds = now() - start
    head.set_bank(MemoryBank(head.dtype))
    file.unlink(missing_ok=True)
    return seconds


def measure(options: argparse.Namespace) -> List[Dict[str, float]]:
    """Seconds of each arm, a record a turn."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = built(options, device)
    shape = (options.batch, 3, options.size, options.size)
    generator = torch.Generator().manual_seed(0)
    count = -(-options.images // options.batch)
    batches = [
        torch.rand(shape, generator=generator).to(device) for _ in range(count)
    ]
    records: List[Dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for arm in ARMS:  # warm up
            epoch(model, batches[:1], arm, Path(folder))
        for turn in track(range(options.turns), console=Console(stderr=True)):
            records.append(
                {
                    arm: epoch(model, batches, arm, Path(folder))
                    for arm in order_of(ARMS, turn)
                }
            )
    return records


def show(records: List[Dict[str, float]], images: int) -> None:
    """Rates, and their paired ratios to the forward pass alone."""
    table = Table('', 'images/s', 'of the forward rate', 'least', 'greatest')
    for arm in ARMS:
        seconds = np.array([record[arm] for record in records])
        ratios = np.array([record['forward'] for record in records]) / seconds
        table.add_row(
            arm,
            f'{images / np.median(seconds):.1f}',
            f'{np.median(ratios):.3f}',
            f'{ratios.min():.3f}',
            f'{ratios.max():.3f}',
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A memory's filling against the forward pass alone"
    )
    count = at_least(1)
    parser.add_argument('--images', type=count, default=64)
    parser.add_argument('--batch', type=count, default=16)
    parser.add_argument('--size', type=count, default=224, help='of an image')
    parser.add_argument(
        '--depth',
        type=int,
        default=18,
        choices=sorted(ResNet.arch_settings),
        help='of the ResNet',
    )
    parser.add_argument('--turns', type=count, default=6)
    parser.add_argument('--mode', choices=('pixel', 'pooled'), default='pixel')
    parser.add_argument(
        '--dtype', choices=('float32', 'float16', 'uint8'), default='uint8'
    )
    parser.add_argument('--out', type=new_path, help='a new JSON file')
    parser.add_argument('--folder', type=Path, help="of the bank; the system's")
    options = parser.parse_args()
    if options.folder and not options.folder.is_dir():
        parser.error(f'--folder {options.folder} is no folder; make it')
    records = measure(options)
    count = -(-options.images // options.batch) * options.batch
    show(records, count)
    if options.out:
        with new_file(options.out) as part:
            part.write_text(json.dumps(records))


if __name__ == '__main__':
    main()
