"""Lock commands: an application is kept at rest while snapshots are made."""
