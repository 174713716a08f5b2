"""Tables of what U(1) costs."""

from typing import Dict, List, Tuple

import numpy as np

from .benchmark.arm_statistics import compare
from .markup import markdown as escaped


def difference(times: Dict[str, List[float]], arm: str) -> Tuple[float, ...]:
    """Mean paired difference to stock and its interval, per cent of stock."""
    scale = 100 / np.median(times['stock'])
    result = compare(
        *(scale * np.array(times[name]) for name in (arm, 'stock'))
    )
    return result.mean, result.low, result.high


def _spread(times: List[float]) -> str:
    low, mid, high = 1000 * np.quantile(times, (0.25, 0.5, 0.75))
    return f'{mid:.1f} ({low:.1f}..{high:.1f})'


def _percent(stock: float, u1: float) -> str:
    return f'{100 * (u1 / stock - 1):+.4f} %'


def rows(record: dict) -> List[List[str]]:
    """Quantity, stock, U(1), difference."""
    lines = []
    for key, name in (('train_s', 'step, ms'), ('infer_s', 'inference, ms')):
        times = record[key]
        names = {'U(1)': name, 'stock again': f'{name}: stock again'}
        for arm, words in names.items():
            mean, low, high = difference(times, arm)
            change = f'{mean:+.2f} % [{low:+.2f}, {high:+.2f}]'
            spreads = [_spread(times[which]) for which in ('stock', arm)]
            lines.append([words, *spreads, change])
    step, branch = record['train_s']['stock'], record['branch_s']
    share = f'{100 * np.median(branch) / np.median(step):+.3f} % of a step'
    lines.append(['branch alone, ms', '', _spread(branch), share])
    both = [record[arm] for arm in ('stock', 'U(1)')]
    memory = [arm['held_bytes'] + arm['step_bytes'] for arm in both]
    values = [f'{value / 2**20:.2f}' for value in memory]
    lines.append(['peak memory of a step, MiB', *values, _percent(*memory)])
    for key, name in (
        ('parameters', 'parameters'),
        ('inference_flops', 'FLOPs, one image'),
        ('training_flops', 'FLOPs, training step'),
    ):
        counts = [arm[key] for arm in both]
        values = [f'{count:,}' for count in counts]
        lines.append([name, *values, _percent(*counts)])
    for key, name in (
        ('equal_logits', 'logits, same weights'),
        ('equal_graphs', 'exported graph'),
    ):
        lines.append([name, '', '', 'equal' if record[key] else 'DIFFERENT'])
    return lines


def markdown(report: dict) -> str:
    """The tables of ``cost.md``."""
    head = ['quantity', 'stock', 'U(1)', 'difference']
    modes = 'AMP, ' * report['amp'] + 'compiled, ' * report['compile']
    lines = [
        f'{escaped(report["hardware"])}, torch {report["torch"]}, batch '
        f'{report["batch_size"]} at {report["size"]}x{report["size"]}, '
        f'{modes}{report["rounds"]} rounds. Times: median '
        '(quartiles), difference: mean of paired rounds in per cent of stock '
        '[95 % interval].',
    ]
    for record in report['records']:
        lines += ['', f'### {escaped(record["config"])}', '']
        lines.append('| ' + ' | '.join(head) + ' |')
        lines.append('|---|---:|---:|---:|')
        lines += ['| ' + ' | '.join(row) + ' |' for row in rows(record)]
    return '\n'.join(lines) + '\n'
