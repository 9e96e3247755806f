"""Stored blocks, read back: diff files, the check of each block, and blocks on their way into a target."""
