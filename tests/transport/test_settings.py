"""Whose files the configuration of ssh is looked for in."""

import os
import pwd
from pathlib import Path

from blockdiff.transport.settings import SshSettings


def test_home_and_user_are_the_password_files_as_for_ssh(monkeypatch):
    monkeypatch.setenv("HOME", "/elsewhere")
    monkeypatch.setenv("USER", "somebody")
    found = SshSettings(environment=os.environ)
    account = pwd.getpwuid(os.getuid())
    assert (found.home, found.user) == (Path(account.pw_dir), account.pw_name)
    assert (found.config, found.system_config) == (None, Path("/etc/ssh/ssh_config"))
