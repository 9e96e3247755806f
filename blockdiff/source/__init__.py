"""One agent at work on a source host: it is pushed, asked for a volume, and received to its end."""
