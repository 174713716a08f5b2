"""The greatest scores of long rows, for little more than reading them once."""

from typing import Tuple

import torch
from torch import Tensor

_GROUP = 64  # scores that one maximum stands for


def _grouped(scores: Tensor) -> Tuple[Tensor, Tensor]:
    """Scores in groups, ``(Q, _GROUP, g)``, and those that fill none.

    A group's columns lie g apart: maxima of many groups are then taken at a
    time, in the order in which memory is read.
    """
    count = scores.size(1) // _GROUP
    end = count * _GROUP
    return scores[:, :end].unflatten(1, (_GROUP, count)), scores[:, end:]


def greatest(scores: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """``scores.topk(k)`` of ``(Q, n)``, faster on long rows.

    The k greatest lie in the k groups with the greatest maxima, and a maximum
    is cheaper than a selection.
    """
    queries, count = scores.shape
    if count // _GROUP < 4 * k:
        return scores.topk(k, dim=1)
    groups, remainder = _grouped(scores)
    chosen = groups.amax(1).topk(k, dim=1).indices
    within = torch.arange(_GROUP, device=scores.device) * groups.size(2)
    columns = (chosen[..., None] + within).flatten(1)
    last = torch.arange(count - remainder.size(1), count, device=scores.device)
    columns = torch.cat([columns, last.expand(queries, -1)], dim=1)
    values, position = scores.gather(1, columns).topk(k, dim=1)
    return values, columns.gather(1, position)


def above(scores: Tensor, least: Tensor) -> Tuple[Tensor, Tensor]:
    """All scores ``(Q, n)`` above ``least``, ``(Q, 1)``, where they are few.

    Returns:
        tuple: Values and columns, ``(Q, m)``, in no order. A row with fewer
        than m such scores is filled up with minus infinity, which is nobody's
        score: it must be less than ``least``.
    """
    groups, remainder = _grouped(scores)
    row, group = (groups.amax(1) > least).nonzero(as_tuple=True)
    pair, within = (groups[row, :, group] > least[row]).nonzero(as_tuple=True)
    row, column = row[pair], group[pair] + within * groups.size(2)
    if remainder.size(1):
        more, at = (remainder > least).nonzero(as_tuple=True)
        column = torch.cat([column, at + scores.size(1) - remainder.size(1)])
        row, order = torch.cat([row, more]).sort(stable=True)
        column = column[order]
    sizes = row.bincount(minlength=len(scores))
    place = (
        torch.arange(len(row), device=row.device)
        - (sizes.cumsum(0) - sizes)[row]
    )
    width = int(sizes.max())
    columns = row.new_zeros(len(scores), width)
    values = scores.new_full((len(scores), width), -torch.inf)
    columns[row, place] = column
    values[row, place] = scores[row, column]
    return values, columns
