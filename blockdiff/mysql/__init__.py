"""MariaDB and MySQL: the connection, the account, and the read lock."""
