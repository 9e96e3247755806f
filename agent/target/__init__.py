"""The target of a restore on this host: pushed only for a restore."""
