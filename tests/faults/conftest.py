from pathlib import Path

import pytest
import tiny


@pytest.fixture(scope='session')
def data(tmp_path_factory) -> Path:
    """A hundred small pictures of ten classes, and configs beside them."""
    folder = tmp_path_factory.mktemp('digits')
    tiny.write_digits(folder, train=6, val=2, test=2)
    return folder
