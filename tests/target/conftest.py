"""A file of 4 MiB that is not empty, and a loop device on it."""

import pytest
from devices import loop_device

MIB = 1024 * 1024


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"\xcc" * (4 * MIB))
    return path


@pytest.fixture
def loop(image):
    with loop_device(image) as device:
        yield device
