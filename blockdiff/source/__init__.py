"""One agent at work on a source host: it is pushed, asked, and heard to its end."""
