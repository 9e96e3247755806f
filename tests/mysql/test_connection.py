"""What a connection knows of its server."""

import pytest

from blockdiff.mysql import connection


@pytest.mark.parametrize(
    "version, expected",
    [("10.11.6-MariaDB-0+deb12u1", (10, 11, 6)), ("8.4.3", (8, 4, 3)), ("8.0", (8, 0, 0)), ("x", (0, 0, 0))],
)
def test_the_release_is_read_from_the_version(version, expected):
    assert expected == connection.release_of(version)
