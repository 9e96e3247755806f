"""Where things are in the checkout."""

import pathlib

TESTS = pathlib.Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
VECTORS = TESTS / "vectors"
GOLDEN = VECTORS / "golden"  # chains of the original
