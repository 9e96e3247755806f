"""Block-level incremental backups."""

__version__ = "1.0.0"
