"""People: a file per command; parse, call one use-case, print its result."""
