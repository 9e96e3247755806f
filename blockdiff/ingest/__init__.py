"""An agent's blocks become the files of a version."""
