"""A version as a disk of other programs: servers and mounts, each a process of its own that ends with us."""
