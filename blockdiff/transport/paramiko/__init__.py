"""SSH by paramiko, without a process of its own."""
