"""Figures of a comparison: differences, learning curves, gain and cost."""

import json
import math
from typing import Dict, List, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...extras import needs
from ...measure.labels import class_style
from ..markup import label, mathtext
from .arm_results import ArmResult

with needs('lab'):
    import pandas as pd

#: Colour-blind-safe (Paul Tol, "bright"); markers differ as well, for print.
ROLE_STYLES = dict(
    baseline=dict(color='#222222', marker='o'),
    u1=dict(color='#4477AA', marker='o'),
    rival=dict(color='#228833', marker='s'),
    control=dict(color='#EE6677', marker='^'),
    ablation=dict(color='#AA3377', marker='D'),
)
_COLUMNS = 4


def differences(
    results: Sequence[ArmResult],
    pairs: Dict[str, np.ndarray],
    metric: str,
    title: str,
) -> Figure:
    """Mean paired differences with intervals, and each pair as a dot.

    Args:
        results (Sequence[ArmResult]): Arms without a comparison are left out.
        pairs (Dict[str, np.ndarray]): Differences of each seed, by arm.
        metric (str): Name and unit, for the axis.
        title (str): Above.
    """
    shown = [r for r in results if r.to_baseline is not None][::-1]
    height = 1.6 + 0.36 * max(len(shown), 3)
    figure = Figure(figsize=(8, height), layout='constrained')
    ax = figure.subplots()
    ax.axvline(0, color='0.4', lw=1)
    for row, result in enumerate(shown):
        c, style = result.to_baseline, ROLE_STYLES[result.role]
        points = pairs[result.arm]
        # A little apart, as many pairs differ by the same number of images.
        jitter = row + np.linspace(-0.22, 0.22, len(points))
        ax.scatter(points, jitter, s=9, color='0.65', zorder=1, linewidths=0)
        if not math.isnan(c.low):
            ax.plot([c.low, c.high], [row, row], lw=2, color=style['color'])
        ax.plot(c.mean, row, ls='', ms=8, mec='white', zorder=3, **style)
    ax.set_yticks(
        range(len(shown)), [f'{mathtext(r.arm)}  (n={r.n})' for r in shown]
    )
    ax.set(
        xlabel=f'difference to the baseline, {metric}', title=mathtext(title)
    )
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.grid(axis='x', color='0.92')
    ax.set_axisbelow(True)
    for side in ('top', 'right'):
        ax.spines[side].set_visible(False)
    _role_legend(ax, [r.role for r in shown])
    return figure


def _role_legend(ax: Axes, roles: List[str]) -> None:
    names = dict(u1='U(1)')
    for role in dict.fromkeys(reversed(roles)):
        style = dict(ROLE_STYLES[role], label=names.get(role, role))
        ax.plot([], [], ls='', mec='white', ms=8, **style)
    ax.plot([], [], ls='', marker='.', color='0.65', label='one pair')
    _legend_beside(ax)


def _legend_beside(ax: Axes) -> None:
    ax.legend(
        loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9
    )


def curve_values(runs: pd.DataFrame) -> pd.DataFrame:
    """Validation top-1 of an arm, a row an epoch, a column a seed."""
    return pd.DataFrame(
        {
            run.seed: {
                entry['epoch']: entry['accuracy/top1']
                for entry in json.loads(run.val_curve)
            }
            for run in runs.itertuples()
        }
    ).sort_index()


def has_curves(table: pd.DataFrame) -> bool:
    """Whether a run was validated after more than one epoch."""
    curves = table.val_curve if 'val_curve' in table else ()
    return any(len(json.loads(curve)) > 1 for curve in curves)


def learning_curves(
    table: pd.DataFrame, results: Sequence[ArmResult], title: str
) -> Figure:
    """One panel an arm: its validation top-1 and the baseline's.

    Lines are means over seeds, bands one standard deviation.

    Args:
        table (pd.DataFrame): Of one config.
        results (Sequence[ArmResult]): The baseline first.
        title (str): Above.
    """
    base, *others = results
    curves = {r.arm: curve_values(table[table.arm == r.arm]) for r in results}
    columns = min(_COLUMNS, max(1, len(others)))
    rows = max(1, math.ceil(len(others) / columns))
    figure = Figure(
        figsize=(3.1 * columns, 2.5 * rows + 0.6), layout='constrained'
    )
    axes = figure.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False
    ).ravel()
    for ax in axes[len(others) :]:
        ax.set_visible(False)
    for i, (ax, result) in enumerate(zip(axes, others)):
        for arm, role in ((base.arm, 'baseline'), (result.arm, result.role)):
            curve, color = curves[arm], ROLE_STYLES[role]['color']
            if curve.empty:  # trained without validation
                continue
            mean, sd = curve.mean(axis=1), curve.std(axis=1).fillna(0)
            style = dict(marker='.', ms=4, lw=1.4, color=color)
            if role == 'baseline':
                style['ls'] = '--'
            ax.plot(curve.index, mean, label=label(arm), **style)
            ax.fill_between(
                curve.index, mean - sd, mean + sd, color=color, alpha=0.15, lw=0
            )
        ax.set_title(mathtext(result.arm, 30), fontsize=10)
        ax.grid(color='0.92')
        # Panels below may be missing, and then this is the lowest one.
        if i + columns >= len(others):
            ax.set_xlabel('epoch')
            ax.tick_params(labelbottom=True)
        if i % columns == 0:
            ax.set_ylabel('validation top-1, %')
    drawn = [curve for curve in curves.values() if not curve.empty]
    lows = [curve.mean(axis=1).median() for curve in drawn]
    tops = [curve.max(axis=None) for curve in drawn]
    if drawn:
        # The first epochs would flatten everything that is to be compared.
        margin = 0.6 * max(max(tops) - min(lows), 1)
        top = min(max(tops) + margin / 4, 100.5)
        axes[0].set_ylim(min(lows) - margin, top)
    figure.suptitle(f'{mathtext(title)} (dashed: {mathtext(base.arm)})')
    return figure


def gain_and_cost(
    results: Sequence[ArmResult], metric: str, title: str
) -> Figure:
    """Difference to the baseline over the processor time that it takes.

    Lines are the difference's interval, and the quartiles of the pairs' times.
    For arguments, see :func:`differences`.
    """
    figure = Figure(figsize=(8.4, 4.8), layout='constrained')
    ax = figure.subplots()
    ax.axhline(0, color='0.4', lw=1)
    ax.axvline(0, color='0.85', lw=1)
    shown = [r for r in results if r.to_baseline is not None]
    for i, result in enumerate(shown):
        c, style = result.to_baseline, class_style(i)
        cost = 100 * (result.cpu - 1)
        spread = [100 * (ratio - 1) for ratio in result.cpu_quartiles]
        ax.plot(spread, [c.mean, c.mean], lw=1, color=style['color'])
        if not math.isnan(c.low):
            ax.plot([cost, cost], [c.low, c.high], lw=1, color=style['color'])
        if style['marker'] not in '+x':  # which are nothing but edge
            style = dict(style, mec='white')
        ax.plot(cost, c.mean, ls='', ms=8, label=label(result.arm), **style)
    ax.set(
        xlabel='processor time more than the baseline, % (median, quartiles)',
        ylabel=f'difference to the baseline, {metric}',
        title=mathtext(title),
    )
    ax.grid(color='0.94')
    ax.set_axisbelow(True)
    _legend_beside(ax)
    return figure
