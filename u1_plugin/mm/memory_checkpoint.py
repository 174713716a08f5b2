"""A memory bank in the state of its head, and so in checkpoints."""

from typing import Any

from torch import nn

from ..memory import MemoryBank
from .memory_identity import check_bank


class BankInState(nn.Module):
    """Stores and reads :attr:`bank` with a module's other state.

    Attributes:
        bank (MemoryBank): The bank.
        in_checkpoint (bool): Whether it is stored; it is always read.
    """

    bank: MemoryBank
    in_checkpoint: bool

    def _take_bank(self, bank: MemoryBank, sharded: bool) -> None:
        raise NotImplementedError

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.in_checkpoint and len(self.bank):
            for name, value in self.bank.state().items():
                destination[f'{prefix}bank.{name}'] = value

    def _load_from_state_dict(
        self, state_dict, prefix: str, *args: Any
    ) -> None:
        start = f'{prefix}bank.'
        tensors = {
            name[len(start) :]: state_dict.pop(name)
            for name in list(state_dict)
            if name.startswith(start)
        }
        if tensors:
            bank = MemoryBank.from_state(tensors, name=f'checkpoint: {start}')
            # The plane's own state is loaded after this, and compared before
            # the first answer.
            check_bank(self, bank, aside=('feature_plane',))
            self._take_bank(bank, False)
        super()._load_from_state_dict(state_dict, prefix, *args)
