"""CONTRIBUTING.md and `make help` against the tree: what they name exists, and no room is left out."""

import re
import subprocess

from places import ROOT
from test_guard import LAYERS

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MAP = TEXT.partition("## The map")[2].partition("\n## ")[0]
MAKEFILE = (ROOT / "Makefile").read_text()
INTERNAL = {"moved"}  # a condition, not for people


def test_every_room_is_on_the_map():
    rooms = {path.relative_to(ROOT).as_posix() + "/" for path in (ROOT / "blockdiff").iterdir() if path.is_dir()}
    rooms = {room for room in rooms if not room.endswith("__pycache__/")} | {"agent/", "bin/", "man/", "tests/"}
    on_map = re.findall(r"^\| `([^`]+/)` \|", MAP, re.M)
    assert len(on_map) == len(set(on_map)) and set(on_map) == rooms


def test_the_rooms_are_in_the_order_of_the_layers():
    rows = [row.split() for row in LAYERS]
    on_map = [room for room in re.findall(r"^\| `blockdiff/(\w+)/` \|", MAP, re.M) if room != "completion"]
    order = [next(number for number, row in enumerate(rows) if room in row) for room in on_map]
    assert order == sorted(order, reverse=True)


def test_files_that_are_named_exist():
    named = [word for word in re.findall(r"`([^`\s]+/[^`\s]*)`", TEXT) if "X" not in word and "*" not in word]
    assert len(named) > 20
    for word in named:
        assert any((ROOT / folder / word).exists() for folder in ("", "blockdiff", "tests")), word
    for path in re.findall(r"pytest (tests/\S+\.py)", TEXT):
        assert (ROOT / path).is_file()


def test_make_help_lists_every_target():
    targets = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split()) - INTERNAL
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make ([a-z-]+)  +\S", done.stdout, re.M)) == targets
    assert set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", TEXT)) <= targets
