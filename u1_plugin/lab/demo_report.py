"""Evaluate the demo's twins on the test split: table, picture, JSON."""

import json
import math
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

import numpy as np
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from ..files import replaced_file
from ..nn.taps import MapReader
from .markup import terminal
from .moment_figure import MomentPanel, plot_moments
from .outputs import top_accuracies
from .statistics import PairedResult, paired_difference
from .weights import classifier_of

ARMS = dict(baseline='one-hot', u1='one-hot + U(1)')


class Evaluation(NamedTuple):
    """One model on the test split.

    Attributes:
        accuracy (float): Top-1, per cent.
        moments (np.ndarray): ``z_f`` of the last layer, ``(N, 2)``.
        labels (np.ndarray): ``(N,)``.
        class_angles (np.ndarray | None): Of a U(1) model's checkpoint.
    """

    accuracy: float
    moments: np.ndarray
    labels: np.ndarray
    class_angles: np.ndarray


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, measuring: torch.nn.Module, loader
) -> Evaluation:
    """One pass over ``loader``.

    Args:
        model: Baseline or U(1) classifier, in eval mode.
        measuring: The U(1) classifier whose branch measures and holds the
            class angles, so that both arms are measured alike.
        loader: Of the test split.
    """
    scores, moments, labels = [], [], []
    branch = measuring.u1
    with MapReader(model, branch.neck.layers) as reader:
        for batch in loader:
            data = model.data_preprocessor(batch)
            scores.append(model(data['inputs']))
            moments.append(branch.neck(reader.maps())[-1].value)
            labels += [int(s.gt_label) for s in data['data_samples']]
    target = np.array(labels)
    top = top_accuracies(torch.cat(scores).numpy(), target)
    return Evaluation(
        top['accuracy/top1'],
        torch.cat(moments).numpy(),
        target,
        branch.class_angles.angles.numpy(),
    )


def evaluate_all(
    configs: Dict[str, Config], checkpoints: Dict[str, Sequence[Path]]
) -> Dict[str, List[Evaluation]]:
    """Evaluate the checkpoints on the test split of the U(1) config.

    Args:
        configs (Dict[str, Config]): One an arm, ``'u1'`` among them.
        checkpoints (Dict[str, Sequence[Path]]): One a seed, arm by arm. The
            U(1) model of a seed measures the other arm's as well.

    Returns:
        Dict[str, List[Evaluation]]: One a seed, arm by arm.
    """
    init_default_scope(configs['u1'].default_scope)
    loader = Runner.build_dataloader(configs['u1'].test_dataloader)
    results: Dict[str, List[Evaluation]] = {arm: [] for arm in configs}
    for pair in zip(*(checkpoints[arm] for arm in configs)):
        models = {
            arm: classifier_of(configs[arm], str(file), may_lack=())
            for arm, file in zip(configs, pair)
        }
        for arm, model in models.items():
            results[arm].append(evaluate(model, models['u1'], loader))
    return results


def conclusion(result: PairedResult) -> str:
    """Say what the paired difference shows, without a full stop."""
    if math.isnan(result.low):
        return (
            'every pair differs by the same amount: too few seeds for an '
            'interval'
        )
    sentences = {
        'higher': 'U(1) lies above its one-hot twin, but a few pairs without '
        'controls show no gain, and fresh seeds have had none',
        'lower': 'U(1) lies below its one-hot twin, but a few pairs without '
        'controls show no loss',
        'no difference shown': 'no difference shown: the interval contains 0',
    }
    return sentences[result.verdict]


def make_table(
    accuracies: Dict[str, List[float]], result: PairedResult, n_test: int
) -> Table:
    """Tabulate the seeds, then the mean, its interval and its p-value.

    Args:
        accuracies (Dict[str, List[float]]): Top-1 by arm and seed, per cent.
        result (PairedResult): The difference of U(1) to the baseline.
        n_test (int): Images of the test split.
    """
    table = Table(title=f'Digits, test split of {n_test} images: top-1 (%)')
    table.add_column('seed', justify='right')
    for label in (*ARMS.values(), 'difference'):
        table.add_column(label, justify='right')
    rows = list(zip(*accuracies.values()))
    for seed, (baseline, u1) in enumerate(rows):
        table.add_row(
            str(seed), f'{baseline:.2f}', f'{u1:.2f}', f'{u1 - baseline:+.2f}'
        )
    table.add_section()
    means = [f'{np.mean(values):.2f}' for values in accuracies.values()]
    table.add_row('mean', *means, f'{result.mean:+.2f}')
    table.add_row(
        f'{result.confidence:.0%} interval',
        '',
        '',
        f'[{result.low:+.2f}, {result.high:+.2f}]',
    )
    table.add_row('p (paired t)', '', '', f'{result.pvalue:.2f}')
    return table


def write_report(
    configs: Dict[str, Config],
    checkpoints: Dict[str, Sequence[Path]],
    out: Path,
    console: Console,
) -> None:
    """Print the table, write ``report.json`` and ``moments.png`` to ``out``.

    Args:
        configs (Dict[str, Config]): One an arm.
        checkpoints (Dict[str, Sequence[Path]]): One a seed, arm by arm.
        out (Path): An existing folder.
        console (Console): For the table.
    """
    results = evaluate_all(configs, checkpoints)
    accuracies = {
        arm: [r.accuracy for r in evaluations]
        for arm, evaluations in results.items()
    }
    result = paired_difference(accuracies['u1'], accuracies['baseline'])
    first = {arm: evaluations[0] for arm, evaluations in results.items()}
    console.print(make_table(accuracies, result, len(first['u1'].labels)))
    console.print(f'Result over {result.n} paired seeds: {conclusion(result)}.')

    panels = [
        MomentPanel(
            f'{ARMS[arm]}, top-1 {e.accuracy:.2f} %', e.moments, e.labels
        )
        for arm, e in first.items()
    ]
    names = [str(c) for c in range(len(first['u1'].class_angles))]
    figure = plot_moments(
        panels,
        first['u1'].class_angles,
        names,
        'Bottleneck moments of the test images in the feature plane (seed 0);'
        ' class angles on the circle',
    )
    with replaced_file(out / 'moments.png') as part:
        figure.savefig(part, dpi=110)
    report = dict(
        accuracy=accuracies,
        difference=result._asdict(),
        conclusion=conclusion(result),
    )
    with replaced_file(out / 'report.json') as part:
        part.write_text(json.dumps(report, indent=1))
    for name, file in (('Picture', 'moments.png'), ('Numbers', 'report.json')):
        # No line break inside a path.
        console.print(f'{name}: {terminal(out / file)}', soft_wrap=True)


def next_steps(root: Path, python: str) -> str:
    """What to try after the demo: commands that work as they stand.

    Args:
        root (Path): The checkout, relative to the current folder if it is
            below it.
        python (str): The interpreter that has the plugin.
    """
    tools, configs, docs = (
        root / name for name in ('tools', 'configs', 'docs')
    )
    weights = 'checkpoints/lite0.pth'
    lite = configs / 'pretrained/efficientnet-lite0_memory_folder.py'
    memory = configs / 'memory_bank/efficientnet-lite0_memory_digits.py'
    return f"""What to try next

1. U(1) in a config of your own, by inheritance and one line. mine.py:
     _base_ = ['mmpretrain::resnet/resnet18_8xb16_cifar10.py']
     model = dict(type='u1_plugin.U1ImageClassifier')
   {python} {tools / 'train.py'} mine.py
   (it downloads CIFAR-10; more in {docs / 'add_u1_to_your_model.md'})

2. What a network with ImageNet weights does at its bottlenecks, as a page:
   {python} {tools / 'model_converters/efficientnet_lite.py'} lite0 {weights}
   {python} {tools / 'analyze_bottleneck.py'} {lite} {weights} --data photos

3. The same network classifies digits from a memory, without training:
   {python} {tools / 'test.py'} {memory} {weights}

4. Whether it helps, on larger data and with controls:
   {docs / 'results/README.md'}"""


def print_next(root: Path, console: Console) -> None:
    """Print :func:`next_steps`, with paths relative to the current folder."""
    here = Path.cwd()
    # Not resolved: an environment's interpreter is a link out of it.
    paths = [
        path.relative_to(here) if path.is_relative_to(here) else path
        for path in (root, Path(sys.executable))
    ]
    text = next_steps(paths[0], str(paths[1]))
    console.print(
        f'\n{text}', soft_wrap=True, markup=False, highlight=False, emoji=False
    )
