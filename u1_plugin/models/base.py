"""What the plugin's modules with state share."""

import io
from typing import Any, Dict

import mmengine.fileio as fileio
import numpy as np
from mmengine.model import BaseModule


class OptionalStateModule(BaseModule):
    """A module whose state a plain model's checkpoint may lack.

    A zoo checkpoint knows no class angles. Loading one leaves this module's
    state as it was built and reports no missing key; a checkpoint that holds
    a part of the state is incomplete and reported as usual.
    """

    def _load_from_state_dict(
        self,
        state_dict,
        prefix,
        local_metadata,
        strict,
        missing_keys,
        unexpected_keys,
        error_msgs,
    ):
        if any(key.startswith(prefix) for key in state_dict):
            super()._load_from_state_dict(
                state_dict,
                prefix,
                local_metadata,
                strict,
                missing_keys,
                unexpected_keys,
                error_msgs,
            )


def check_choice(field: str, value: Any, choices) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(
            f'{field}={value!r} is not supported; use one of {tuple(choices)}'
        )


def load_arrays(field: str, path: str) -> Dict[str, np.ndarray]:
    """Read an ``.npz`` through MMEngine's file clients (disk, S3, HTTP).

    Raises:
        ValueError: If ``path`` is no npz file, naming ``field``.
        FileNotFoundError: If there is none.
    """
    try:
        with np.load(io.BytesIO(fileio.get(path)), allow_pickle=False) as npz:
            return {name: npz[name] for name in npz.files}
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{field}={path!r} does not exist; write one with numpy.savez'
        ) from None
    except (ValueError, OSError, AttributeError) as error:
        raise ValueError(
            f'{field}={path!r} is not an .npz file of arrays: {error}'
        ) from error
