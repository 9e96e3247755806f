"""People: parse a command line, call one use-case, print its result.  A file per verb."""
