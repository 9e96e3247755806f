"""A throwaway clone of a version is used as it would be after a restore: file system checked, database started."""
