"""The page and the table of comparisons over data sets."""

import math
from typing import Dict, List, NamedTuple, Sequence

from ...extras import needs
from ..markup import code, fence
from ..markup import markdown as escaped
from .across import Across, Aggregate, words
from .arm_results import LEVEL, interval
from .arm_statistics import holm
from .frames import markdown, p_text

with needs('lab'):
    import jinja2
    import pandas as pd

_PAGE = jinja2.Template(
    """\
# Comparisons over data sets

Test top-1 of the last epoch, in per cent, of arms that are paired by seed
within one benchmark's results. Each data set weighs the same, and intervals
are of 95 %. An effect is claimed only where the interval of the mean excludes
0 and the permutation test's p is below {{ level }} after Holm's correction over
the {{ parts | length }} comparison(s) of this page. A gain over the baseline is
U(1)'s only where the arm beats its controls as well.
{% for line in warnings %}
**{{ line }}**
{% endfor %}
{% for part in parts -%}
- {{ part.line }}
{% endfor %}
![differences on each data set, and their mean](forest.png)
{% for part in parts %}
## {{ part.title }}

{{ part.standing }}

{{ part.sets }}

{{ part.pooled }}
{% if part.left_out %}
Left out: {{ part.left_out }}.
{% endif %}{% endfor %}
## Results

{{ results }}

## Definitions

A *data set* is a config: images and a network. Seeds of one config from
several results count together where the settings of both arms are the same.

- *difference*: mean over the pairs of the arm's top-1 less the reference's, in
  points, with its bootstrap interval (BCa); *sd*: standard deviation of these
  differences.
- *permutation p*: of the two-sided sign-flip test of a mean difference.
- *mean difference* over data sets: the mean of theirs. Its interval is as wide
  as the data sets of the widest scatter make it.
- *interquartile mean*: mean of the middle half of all paired differences, of
  which each data set has the same weight. All are points of accuracy, so that
  nothing is normalised. What few data sets gain or lose may lie outside it.
- *probability of improvement*: the chance that a run of the arm is better than
  one of the reference, mean over data sets; ties count one half. It is
  **unpaired**: each seed against every seed, as in the test of Mann and
  Whitney.
- *share of pairs*: the same, of two runs of one seed.

Intervals over data sets are percentiles of 9,999 resamples of a stratified
bootstrap: pairs are resampled within each data set (and for the probability of
improvement the runs of either arm). The data sets themselves are not, so that
nothing is said of others. With few pairs such intervals are too narrow, and
that is why the permutation test must agree.

Source: R. Agarwal et al., *Deep Reinforcement Learning at the Edge of the
Statistical Precipice*, NeurIPS 2021
([arXiv](https://arxiv.org/abs/2108.13264)), where runs are unpaired and scores
are normalised by task.

## Command

{{ fence }}bash
{{ command }}
{{ fence }}
"""
)


class PageSection(NamedTuple):
    """One comparison of the page."""

    across: Across  # its numbers
    standing: str  # whether it was named before the runs, in Markdown
    #: By config that is not compared, the arms that it lacks.
    left_out: Dict[str, List[str]]


def corrected(parts: Sequence[Across]) -> List[float]:
    """Permutation p of each comparison, after Holm's correction."""
    p = {str(i): a.pooled.difference.permutation for i, a in enumerate(parts)}
    return list(holm(p).values())


def _sets_frame(across: Across) -> pd.DataFrame:
    rows = []
    for one in across.sets:
        c = one.comparison
        row = {'data set': one.name, 'n': str(c.n)}
        for arm, mean in zip((across.arm, across.reference), one.means):
            row[f'{arm} %'] = f'{mean:.2f}'
        row |= {'difference': interval(c), 'sd': f'{c.sd:.2f}'}
        row['permutation p'] = p_text(c.permutation)
        rows.append(row)
    return pd.DataFrame(rows)


def _share(aggregate: Aggregate) -> str:
    if math.isnan(aggregate.low):
        return f'{aggregate.value:.2f} [no interval]'
    return f'{aggregate.value:.2f} [{aggregate.low:.2f}, {aggregate.high:.2f}]'


def _pooled_frame(across: Across, p: float) -> pd.DataFrame:
    pooled = across.pooled
    mean, iqm = pooled.difference, pooled.iqm
    middle = mean._replace(mean=iqm.value, low=iqm.low, high=iqm.high)
    cells = {
        'mean difference': interval(mean),
        'permutation p': p_text(mean.permutation),
        'Holm p': p_text(p),
        'interquartile mean': interval(middle),
        'probability of improvement': _share(pooled.probability),
        'share of pairs': _share(pooled.paired_share),
    }
    over = f'over {len(across.sets)} data set(s), {mean.n} pairs'
    return pd.DataFrame({over: list(cells), 'value': list(cells.values())})


def _part(part: PageSection, p: float) -> dict:
    across = part.across
    title = f'{escaped(across.arm)} less {escaped(across.reference)}'
    means = [one.comparison.mean for one in across.sets]
    above = f'above 0 on {sum(m > 0 for m in means)} of {len(means)} data sets'
    mean = interval(across.pooled.difference)
    left = [
        f'{code(name)} (no test top-1 of {escaped(" and ".join(arms))})'
        for name, arms in part.left_out.items()
    ]
    return dict(
        title=title,
        line=f'**{title}**: {escaped(words(across, p))}; {mean}, {above}.',
        standing=part.standing,
        sets=markdown(_sets_frame(across)),
        pooled=markdown(_pooled_frame(across, p)),
        left_out=', '.join(left),
    )


def render(
    parts: Sequence[PageSection],
    results: pd.DataFrame,
    warnings: Sequence[str],
    command: str,
) -> str:
    """The page, in Markdown.

    Args:
        parts (Sequence[PageSection]): At least 1.
        results (pd.DataFrame): What was read, a row a folder; plain text.
        warnings (Sequence[str]): What a reader must know first, in Markdown.
        command (str): That makes the page.
    """
    pvalues = corrected([part.across for part in parts])
    return _PAGE.render(
        level=LEVEL,
        parts=[_part(part, p) for part, p in zip(parts, pvalues)],
        warnings=warnings,
        results=markdown(results),
        fence=fence(command),
        command=command,
    )


def csv_table(parts: Sequence[Across]) -> pd.DataFrame:
    """All numbers of a page, a row each.

    Returns:
        pd.DataFrame: Columns ``arm``, ``to``, ``config`` (empty for those over
        all data sets), ``quantity``, ``n`` (pairs), ``value``, ``low``,
        ``high``, ``sd``, ``permutation_p`` and ``holm_p``; empty cells where
        there is no such number.
    """
    rows = []
    for across, p in zip(parts, corrected(parts)):
        names = dict(arm=across.arm, to=across.reference)
        pooled = across.pooled
        means = [(one.name, one.comparison, None) for one in across.sets]
        for config, c, holm_p in [*means, ('', pooled.difference, p)]:
            row = dict(names, config=config, quantity='mean difference')
            row |= dict(n=c.n, value=c.mean, low=c.low, high=c.high, sd=c.sd)
            rows.append(row | dict(permutation_p=c.permutation, holm_p=holm_p))
        for quantity in ('iqm', 'probability', 'paired_share'):
            row = dict(names, config='', quantity=quantity)
            row |= getattr(pooled, quantity)._asdict()
            rows.append(dict(row, n=pooled.difference.n))
    return pd.DataFrame(rows)
