"""A bank's tensors in one file."""

from pathlib import Path
from typing import Dict, Union

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..files import replaced_file

#: What the first KiB of a bank's file holds; see :mod:`u1_plugin.files`.
FILE_MARK = b'u1_plugin memory bank'


def write_file(file: Union[str, Path], tensors: Dict[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all; its folder is made.

    Raises:
        FileExistsError: If another kind of file is there.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(file, FILE_MARK) as part:
        save_file(tensors, str(part), dict(content=FILE_MARK.decode()))


def read_file(file: Union[str, Path]) -> Dict[str, Tensor]:
    """The tensors of a safetensors file, whatever they are.

    Raises:
        ValueError: If it is none, or truncated.
    """
    if not Path(file).is_file():
        raise ValueError(f'{file}: no memory bank is there')
    try:
        with safe_open(str(file), framework='pt') as stored:
            # Copies: the tensors would change with the file.
            return {
                name: stored.get_tensor(name).clone() for name in stored.keys()
            }
    except Exception as error:  # whatever the library makes of a file
        raise ValueError(
            f'{file}: no whole safetensors file ({error}); fill the bank again'
        ) from error
