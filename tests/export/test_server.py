"""What is asked of nbdkit before it is started, and what it tells when it cannot serve."""

import os
import sys

import pytest

from blockdiff.errors import NotAllowedHere, ProgramUnfit
from blockdiff.export import server

OURS = "{}.{}".format(*sys.version_info[:2])


def program(folder, text):
    """An nbdkit that prints this."""
    path = folder / "nbdkit"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_another_python_is_refused_before_anything_starts(tmp_path):
    nbdkit = program(tmp_path, "echo name=python; echo python_version=3.7.9")
    with pytest.raises(ProgramUnfit, match=rf"it has python 3\.7, and this is python {OURS}") as caught:
        server.check(nbdkit, os.environ)
    assert (caught.value.exit_code, caught.value.hint) == (60, "install blockdiff for python 3.7, which this nbdkit has")
    server.check(program(tmp_path, f"echo python_version={OURS}.1"), os.environ)


@pytest.mark.parametrize("text", ["exit 1", "echo name=python", f"echo python_version={OURS}.1; exit 1"])
def test_a_plugin_that_is_missing_is_named_with_its_package(text, tmp_path):
    with pytest.raises(ProgramUnfit, match="plugin for python is missing") as caught:
        server.check(program(tmp_path, text), os.environ)
    assert "nbdkit-plugin-python" in caught.value.hint


def test_one_that_ends_before_it_serves_is_quoted(tmp_path):
    text = f'case $2 in --dump-plugin) echo python_version={OURS}.1;; *) echo "no room here" >&2; exit 1;; esac'
    program(tmp_path, text)
    with pytest.raises(ProgramUnfit, match="nbdkit is needed and cannot be used: no room here"):
        with server.serving(
            "vol", 1, str(tmp_path / "s"), cache=0, filters=[], folder=str(tmp_path / "f"), sockets=[], environ={"PATH": f"{tmp_path}:/usr/bin"},
            scratch="/tmp", stderr=2,
        ):  # fmt: skip
            pass


def test_its_python_finds_our_modules_and_its_own_standard_library():
    found = server.environment("/opt/nbdkit/sbin/nbdkit", {"PATH": "/venv/bin", "PYTHONHOME": "/x", "A": "b"}, "/s")
    assert found["A"] == "b" and "PYTHONHOME" not in found and found["TMPDIR"] == "/s"
    assert found["PATH"] == "/opt/nbdkit/sbin:/usr/bin:/bin:/venv/bin"
    paths = found["PYTHONPATH"].split(":")
    assert os.path.isfile(os.path.join(paths[0], "blockdiff", "__init__.py"))
    stdlib = os.path.dirname(os.__file__)
    assert paths[1:] and all(path.endswith("-packages") and path != stdlib for path in paths[1:])


def test_memory_is_used_again_and_a_setting_of_the_caller_stands():
    found = server.environment("/sbin/nbdkit", {"MALLOC_ARENA_MAX": "3"}, "/s")
    assert found["MALLOC_ARENA_MAX"] == "3"
    assert found["MALLOC_MMAP_THRESHOLD_"] == found["MALLOC_TRIM_THRESHOLD_"] == str(32 * 1024 * 1024)


def test_a_uri_has_any_path_escaped_and_no_longer_one_than_a_socket_can_have():
    assert server.uri_of("/a b/ü?&#") == "nbd+unix:///?socket=/a%20b/%C3%BC%3F%26%23"
    with pytest.raises(NotAllowedHere, match="more than 107 bytes") as caught:
        server.uri_of("/" + "x" * 107)
    assert caught.value.exit_code == 61
