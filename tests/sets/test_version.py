"""A version as a value: its size is known from its manifest, or where it has no blocks."""

import dataclasses

from blockdiff.formats.manifest import Manifest
from blockdiff.sets.version import Version


def test_the_size_of_its_volume():
    bare = Version(1, None, "", 512, 3, None)
    sheet = Manifest(1, "full", None, None, 1500, 512, {}, {})

    assert bare.size is None
    assert dataclasses.replace(bare, count=0).size == 0
    assert dataclasses.replace(bare, manifest=sheet).size == 1500
    assert dataclasses.replace(bare, manifest=dataclasses.replace(sheet, size=None)).size is None
