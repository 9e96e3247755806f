"""What several tests of the agent read."""

import pytest
from residency import cold_file


@pytest.fixture
def cold(tmp_path):
    """A file on a disk of which nothing is in memory."""
    path = tmp_path / "volume"
    if not cold_file(path):
        pytest.skip("the temporary folder lies in memory")
    return path
