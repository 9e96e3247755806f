"""The bytes between server and agent; both ends use it, so it keeps to Python 3.6 and the standard library."""
