"""A data set whose errors name the file that cannot be read."""

from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset


class NamingDataset(Dataset):
    """A data set as it was, but for its errors.

    Args:
        dataset (Dataset): Its attributes are read and set here too, as hooks
            do that change a pipeline.
        field (str): Of the config, for messages.
    """

    def __init__(self, dataset: Dataset, field: str) -> None:
        vars(self).update(dataset=dataset, field=field)

    def __getattr__(self, name: str) -> Any:
        # `dataset` is not there yet in a worker that unpickles it, and
        # `__getitems__` would read samples past `__getitem__`.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """One sample.

        Raises:
            RuntimeError: If it cannot be read; the message names its file.
        """
        try:
            return self.dataset[index]
        except Exception as error:
            raise RuntimeError(
                f'{self.field}.dataset: {self._name(index)} cannot be read: '
                f'{type(error).__name__}: {error}'
            ) from error

    def _name(self, index: int) -> str:
        try:
            return str(self.dataset.get_data_info(index)['img_path'])
        except Exception:  # whatever it is, it has no files
            return f'sample {index}'


def name_files(loader: DataLoader, field: str) -> None:
    """Have a loader that has not begun name what cannot be read."""
    if not isinstance(loader.dataset, (NamingDataset, IterableDataset)):
        # A loader forbids this once its workers hold copies; none has begun.
        vars(loader)['dataset'] = NamingDataset(loader.dataset, field)
