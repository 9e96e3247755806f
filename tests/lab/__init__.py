"""Real LVM, sshd and MariaDB in a guest kernel that needs nothing of this machine's kernel."""
