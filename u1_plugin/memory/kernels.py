"""What a neighbour's distance weighs: kernels, by name."""

from typing import Dict, Literal, NamedTuple, Optional, cast

from torch import Tensor

from ..options import Positive, checked, fits, shown

KernelName = Literal['uniform', 'gaussian', 'softmax']
#: By name: the option that a kernel reads, if any.
KERNELS: Dict[str, Optional[str]] = dict(
    uniform=None, gaussian='width', softmax='temperature'
)
_MEANING = dict(width='h of exp(-d^2 / 2 h^2)', temperature='T of exp(s / T)')
#: A cosine distance ends at 2; float32 may round it up.
_FARTHEST = 2 + 1e-5


class Kernel(NamedTuple):
    """``w(d)`` of a neighbour at distance d.

    ``'uniform'``: 1; ``'gaussian'``: ``exp(-d^2 / 2 h^2)``; ``'softmax'``:
    ``exp(s / T)`` of the cosine ``s = 1 - d``.

    Attributes:
        name (str): One of :data:`KERNELS`.
        scale (float): h or T; nothing of a uniform one.
    """

    name: str = 'uniform'
    scale: Optional[float] = None

    def __str__(self) -> str:
        symbol = dict(gaussian=', h', softmax=', T').get(self.name)
        number = '' if symbol is None else f'{symbol} {self.scale:g}'
        return f'kernel {self.name}{number}'

    @property
    def options(self) -> Dict[str, Optional[float]]:
        """What it reads, as a config names it, such as ``width=0.3``."""
        read = KERNELS[self.name]
        return {} if read is None else {read: self.scale}

    def log(self, distances: Tensor) -> Tensor:
        """Log of the weight, less that at distance 0.

        Args:
            distances (Tensor): >= 0; of a softmax kernel ``1 - s``, with the
                cosine s. Infinite where there is no neighbour.

        Returns:
            Tensor: The same shape, float64, <= 0; of no neighbour minus
            infinity.

        Raises:
            ValueError: If a softmax kernel gets more than 2, which is no
                cosine distance.
        """
        _check_kernel(self)
        if self.name == 'uniform':
            return distances.isfinite().double().log()
        scaled = distances.double() / cast(float, self.scale)
        if self.name == 'gaussian':
            return -scaled.square() / 2
        wrong = distances[distances.isfinite() & (distances > _FARTHEST)]
        if len(wrong):
            raise ValueError(
                f"distances holds {wrong[0].item():g}, but kernel='softmax' "
                'takes cosine distances, in [0, 2]; search with metric='
                "'cosine', or take kernel='gaussian'"
            )
        return -scaled


def _check_kernel(kernel: Kernel) -> None:
    """Raise ValueError if one that was made by hand is none."""
    if kernel.name not in KERNELS:
        raise ValueError(
            f'Kernel.name={shown(kernel.name)} must be one of {list(KERNELS)}'
        )
    read = KERNELS[kernel.name]
    hint = type(None) if read is None else Positive
    if not fits(kernel.scale, hint):
        need = 'None' if read is None else f'{_MEANING[read]}, a number > 0'
        raise ValueError(
            f'Kernel.scale={shown(kernel.scale)} of kernel={kernel.name!r} '
            f'must be {need}'
        )


@checked()
def kernel_of(
    kernel: Optional[KernelName] = None,
    width: Optional[Positive] = None,
    temperature: Optional[Positive] = None,
    name: str = '',
) -> Kernel:
    """The kernel that options name.

    Args:
        kernel (str, optional): One of :data:`KERNELS`. None takes the one
            that reads what is given: ``'gaussian'`` with a width,
            ``'softmax'`` with a temperature, else ``'uniform'``.
        width (float, optional): h of ``exp(-d^2 / 2 h^2)``, > 0.
        temperature (float, optional): T of ``exp(s / T)``, > 0.
        name (str): What has the options, such as ``'head.'``, for messages.

    Raises:
        ValueError: If the kernel lacks its option, or one is given that it
            does not read.
    """
    options = dict(width=width, temperature=temperature)
    given = {key: value for key, value in options.items() if value is not None}
    readers = {option: kind for kind, option in KERNELS.items()}
    kernel_name: str = next((readers[option] for option in given), 'uniform')
    if kernel is not None:
        kernel_name = kernel
    read = KERNELS[kernel_name]
    for option, value in given.items():
        if option != read:
            raise ValueError(
                f'{name}{option}={shown(value)} is not read by {name}kernel='
                f'{kernel_name!r}; leave it out, or take '
                f'kernel={readers[option]!r}'
            )
    if read is None:
        return Kernel()
    if read not in given:
        raise ValueError(
            f'{name}{read}=None, but {name}kernel={kernel_name!r} needs it, '
            f'{_MEANING[read]}; give a number > 0'
        )
    return Kernel(kernel_name, float(given[read]))
