"""What the rooms without MMEngine need of ``torch.distributed``.

Every function answers for one process where no process group runs. Tensors
travel on the device of the group's backend, and results come back on the
device that they came from.
"""

from typing import Any, Callable, List, Tuple

import torch
import torch.distributed as torch_dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether a process group runs."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def get_rank() -> int:
    """Number of this process."""
    return torch_dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """Number of processes."""
    return torch_dist.get_world_size() if is_distributed() else 1


def get_dist_info() -> Tuple[int, int]:
    """Rank and world size."""
    return get_rank(), get_world_size()


def get_comm_device() -> torch.device:
    """Device on which the backend exchanges tensors."""
    if is_distributed():
        backend = str(torch_dist.get_backend())  # or 'cpu:gloo,cuda:nccl'
        if 'nccl' in backend and 'gloo' not in backend:
            return torch.device('cuda', torch.cuda.current_device())
    return torch.device('cpu')


def all_reduce_sum(value: Tensor) -> Tensor:
    """Sum over ranks, on the device of ``value``, which stays as it is."""
    if get_world_size() == 1:
        return value
    # A GPU's tensor stays there: gloo takes it too.
    device = value.device if value.is_cuda else get_comm_device()
    total = value.detach().to(device, copy=True)
    torch_dist.all_reduce(total)
    return total.to(value.device)


def all_gather(value: Tensor) -> List[Tensor]:
    """Tensors of one shape, one a rank, on the device of ``value``."""
    if get_world_size() == 1:
        return [value]
    sent = value.detach().to(get_comm_device()).contiguous()
    received = [torch.empty_like(sent) for _ in range(get_world_size())]
    torch_dist.all_gather(received, sent)
    return [part.to(value.device) for part in received]


def all_gather_rows(rows: Tensor) -> List[Tensor]:
    """The rows of every rank, whose numbers of rows may differ.

    Args:
        rows (Tensor): ``(n, ...)``; the rest of the shape is every rank's.

    Returns:
        List[Tensor]: One a rank.
    """
    if get_world_size() == 1:
        return [rows]
    counts = all_gather(torch.tensor([len(rows)], device=rows.device))
    most = int(max(counts))
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    return [
        part[: int(count)] for part, count in zip(all_gather(padded), counts)
    ]


def all_gather_object(value: Any) -> List[Any]:
    """Objects that pickle, one a rank."""
    if get_world_size() == 1:
        return [value]
    received: List[Any] = [None] * get_world_size()
    torch_dist.all_gather_object(received, value)
    return received


def together(action: Callable[..., Any], *args: Any) -> Any:
    """Do something on every rank; where one rank fails, all raise."""
    result, problem = None, None
    try:
        result = action(*args)
    except Exception as error:
        problem = error
    text = None if problem is None else f'{type(problem).__name__}: {problem}'
    failures = [other for other in all_gather_object(text) if other]
    if problem is not None:
        raise problem
    if failures:
        raise RuntimeError(f'another rank failed with {failures[0]}')
    return result
