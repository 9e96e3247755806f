"""What several tests of the agent read."""

import pytest
from residency import cold_file


@pytest.fixture
def cold(disk):
    """A file on a disk of which nothing is in memory."""
    path = disk / "volume"
    if not cold_file(path):
        pytest.skip(f"{disk} is in memory")
    return path
