"""Signatures that OpenSSH makes and checks: bytes in, bytes out.  The program ssh-keygen does all of it."""
