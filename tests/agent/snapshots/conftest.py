"""A host whose program lvs says what a test wants."""

import os
import stat

import pytest


@pytest.fixture
def lvs(tmp_path, monkeypatch):
    """Return a function that makes the program lvs print a text, or fail after saying it."""

    def put(text, code=0):
        (tmp_path / "out").write_text(text)
        pipe = "" if code == 0 else " >&2"
        (tmp_path / "lvs").write_text(f"#!/bin/sh\ncat {tmp_path}/out{pipe}; exit {code}\n")
        (tmp_path / "lvs").chmod(stat.S_IRWXU)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return put
