"""The target of a restore: checked before it is written, and named only when it is complete."""
