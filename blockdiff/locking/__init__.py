"""Any lock command that keeps an application at rest while snapshots are made."""
