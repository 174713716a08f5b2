from pathlib import Path

import pytest
from digit_pictures import write_digits


@pytest.fixture(scope='session')
def data(tmp_path_factory) -> Path:
    """A hundred small pictures of ten classes, and configs beside them."""
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder, size=16, train=6, val=2, test=2)
    return folder
