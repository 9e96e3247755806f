"""Tests of the ways to a host, and the real sshd that they use."""
