"""Data sets that the tests of the loaders share."""

from pathlib import Path

import pytest
from drawn_pictures import draw_colored, draw_varied


@pytest.fixture
def colored(tmp_path) -> Path:
    """Pictures of one color each, which tells them apart."""
    return draw_colored(tmp_path)


@pytest.fixture
def varied(tmp_path) -> Path:
    """Pictures of several sizes, modes and formats."""
    return draw_varied(tmp_path)
