"""What the filling of a memory shares with its ranks and its user."""

from typing import Any, Callable, Iterator

from ..dist import all_gather_object
from .data_content import image_name


def together(action: Callable[..., Any], *args: Any) -> Any:
    """Do something on every rank; where one rank fails, all raise."""
    result, problem = None, None
    try:
        result = action(*args)
    except Exception as error:
        problem = error
    text = None if problem is None else f'{type(problem).__name__}: {problem}'
    others = [other for other in all_gather_object(text) if other]
    if problem is not None:
        raise problem
    if others:
        raise RuntimeError(f'another rank failed with {others[0]}')
    return result


def named_failures(loader: Any) -> Iterator[dict]:
    """The batches; an image that cannot be read is named."""
    batches, seen = iter(loader), 0
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:
            for index in loader.sampler.numbers[seen:]:
                try:
                    loader.dataset[index]
                except Exception:
                    name = image_name(loader.dataset, index)
                    raise ValueError(
                        f'MemoryBankHook: {name} cannot be read or prepared: '
                        f'{error}; mend it or leave it out'
                    ) from error
            raise
        if batch is None:
            return
        yield batch
        seen += len(batch['data_samples'])
