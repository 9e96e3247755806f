"""A program is found where the system has it; one that is missing is named with its package."""

import pytest

from blockdiff.errors import ProgramUnfit
from blockdiff.findprogram import find


def test_a_program_that_is_missing_is_named_with_its_package():
    with pytest.raises(ProgramUnfit, match="nosuch is needed and cannot be used: it is not installed") as caught:
        find("nosuch", "some-package", {"PATH": "/usr/bin"})
    assert (caught.value.exit_code, caught.value.hint) == (60, "apt-get install some-package")
    assert find("sh", "dash", {}) in ("/usr/bin/sh", "/bin/sh")
