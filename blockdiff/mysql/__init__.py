"""The read lock of a MariaDB or MySQL server."""
