"""Where an exact search reads vectors: from the bank, or from a copy."""

from typing import Any, Dict, Iterator, Optional, Tuple, Union

import torch
from torch import Tensor

from ..options import shown
from .bank import MemoryBank
from .storage import decoded

_ROWS = 16384  # in a block, unless somebody says otherwise
_MOST = 0.7  # of a GPU's free memory; the rest is for the search


class DeviceCopy:
    """A bank's vectors on a device, as the bank stores them.

    A bank lies in the host's memory or in a file, and a search on a GPU moves
    all of it there for every ``chunk`` of queries. With a copy it moves once.
    Of a bank that does not fit, the first part stays there; the rest is
    streamed, a block ahead of the search, from pinned memory to a GPU.

    Args:
        bank (MemoryBank): Not empty.
        device (str): Of torch, such as ``'cuda'``.
        room (int, optional): Bytes that the copy may take of it; None means
            most of what a GPU has free, and all of any other device.

    Raises:
        ValueError: If torch knows no such device.
    """

    def __init__(
        self, bank: MemoryBank, device: str, room: Optional[int] = None
    ) -> None:
        self.device, self._bank = device_of(device), bank
        self._side: Optional[torch.cuda.Stream] = None  # of what is sent
        if room is None and self.device.type == 'cuda':
            room = int(_MOST * torch.cuda.mem_get_info(self.device)[0])
        first = next(bank.stored_blocks(1))
        row = sum(value.nbytes for value in first.values())
        self._count = len(bank) if room is None else min(len(bank), room // row)
        self._held = {
            n: v.new_empty((self._count, *v.shape[1:]), device=self.device)
            for n, v in first.items()
        }
        start = 0
        for block in bank.stored_blocks(_ROWS, stop=self._count):
            rows = slice(start, start + len(block['vectors']))
            for name, value in block.items():
                self._held[name][rows] = value.to(self.device)
            start = rows.stop

    def __len__(self) -> int:
        return len(self._bank)

    def __getstate__(self) -> Dict[str, Any]:
        """A stream can neither be copied nor pickled."""
        return {**self.__dict__, '_side': None}

    @property
    def whole(self) -> bool:
        """Whether all vectors lie on the device."""
        return self._count == len(self)

    def lent_blocks(self, rows: int = _ROWS) -> Iterator[Tensor]:
        """At most so many at a time; perhaps parts of the copy itself."""
        for start in range(0, self._count, rows):
            part = slice(start, min(start + rows, self._count))
            yield decoded(self._held, part)
        ahead = None
        for block in self._bank.stored_blocks(rows, start=self._count):
            ahead, ready = self._sent(block), ahead
            if ready is not None:
                yield self._arrived(*ready)
        if ahead is not None:
            yield self._arrived(*ahead)

    def _sent(self, block: Dict[str, Tensor]) -> Tuple[Dict[str, Tensor], Any]:
        """A block on its way, and what says that it is there."""
        if self.device.type != 'cuda':
            return block, None
        self._side = self._side or torch.cuda.Stream(self.device)
        with torch.cuda.stream(self._side):
            sent = {
                name: value.pin_memory().to(self.device, non_blocking=True)
                for name, value in block.items()
            }
            return sent, self._side.record_event()

    def _arrived(self, block: Dict[str, Tensor], event: Any) -> Tensor:
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            for value in block.values():  # not to be reused before it is read
                value.record_stream(current)
        return decoded(block)

    def vectors(self, index: Tensor) -> Tensor:
        """The vectors of an index ``(n,)``, ``(n, C)``, float32."""
        index = index.to(self.device)
        if self.whole:
            return decoded(self._held, index)
        on_device = index < self._count
        size = (len(index), self._bank.channels or 0)
        vectors = torch.empty(size, dtype=torch.float32, device=self.device)
        vectors[on_device] = decoded(self._held, index[on_device])
        streamed = self._bank.vectors(index[~on_device].cpu())
        vectors[~on_device] = streamed.to(self.device)
        return vectors


#: What scores are made of.
Vectors = Union[MemoryBank, DeviceCopy]


def device_of(name: str, field: str = 'device') -> torch.device:
    """A device by its name.

    Raises:
        ValueError: If torch knows no such device, or this machine has none.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f'{field}={shown(name)} is none of torch: {error}; take '
            "'cuda', or leave it out"
        ) from error
    count = torch.cuda.device_count()
    if device.type == 'cuda' and (device.index or 0) >= count:
        raise ValueError(
            f'{field}={shown(name)} is not here: torch finds {count} GPUs; '
            'take another, or leave it out'
        )
    try:
        torch.empty(1, device=device).cpu()
    except Exception as error:  # each kind of device has its own
        raise ValueError(
            f'{field}={shown(name)} cannot be used here: '
            f'{str(error).splitlines()[0]}; take another, or leave it out'
        ) from error
    return device
