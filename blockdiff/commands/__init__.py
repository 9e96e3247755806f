"""Command lines: parse one, call one use-case, print its result.  A file for each command."""
