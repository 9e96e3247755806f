"""Whole commands measured against other tools, in one run on one machine: `make bench`."""
