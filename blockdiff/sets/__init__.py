"""One set in its folder: its versions, its chain, and how a new version is published."""
