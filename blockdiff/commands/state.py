"""What is noted outside the sets, in the user's folder of state."""

import os

from blockdiff.sets import verified


def proofs(name: str) -> str:
    """Return the path of the file that notes which versions of a set were proved."""
    return verified.path_of(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), name)
