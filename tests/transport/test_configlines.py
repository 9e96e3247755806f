"""One line of an ssh_config file, read by us and by ssh."""

import shutil
from dataclasses import replace

import pytest

from blockdiff.errors import HostRefused
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshconfig import resolve

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="the ssh program is missing")

LINES = r"""
Port 2222 # comment
Port "2222"
Port = 2222
Port=2222
"Port" 2222
  port	2222
Port ssh
Port abc
Port 0
Port 70000
Port
Port 2222"
Port 1 2
User alice # who
User "al ice"
User alice bob
IdentityFile ~/.ssh/a # c
IdentityFile "~/.ssh/a b"
IdentityFile ~/.ssh/a\ b
IdentityFile '~/.ssh/a b'
IdentityFile "/a\"b"
IdentityFile /a#b
IdentityFile /a\x
IdentityFile /a\\b
IdentityFile /a" b"c
IdentityFile none
HostName db #x
HostName db0#x
HostName "db-%h"
HostName
ProxyCommand nc %h %p # not a comment
ProxyCommand "nc %h %p"
ProxyCommand = nc %h
ProxyJump a,b # c
ProxyJump = a
UserKnownHostsFile ~/a "/b c" # d
UserKnownHostsFile none
GlobalKnownHostsFile /x /y
SetEnv A=1 "B=2 3" # c
SetEnv A="1 2"
ServerAliveInterval 1m
ServerAliveInterval x
ConnectTimeout 1m30s
ConnectTimeout 2H
ConnectTimeout 10 # s
ConnectTimeout none
ConnectTimeout 0
ConnectTimeout soon
RequiredRSASize 2048 # x
RequiredRSASize x
IdentitiesOnly yes # x
IdentityAgent "~/agent" # x
IdentityAgent none # x
HostKeyAlias "a b"
AddressFamily inet # x
BindAddress 127.0.0.1 # x
PubkeyAcceptedKeyTypes ssh-ed25519 # x
PreferredAuthentications publickey # x
PreferredAuthentications = password
Ciphers aes128-ctr # x
# x
   # x
Host db00 # other
Host other # db00
Host "db00"
Host other,db00
"""


@needs_ssh
@pytest.mark.parametrize("line", [line for line in LINES.splitlines() if line])
def test_own_reading_takes_a_line_as_ssh_does(tmp_path, line):
    """Comments, quotes, escapes, names of services, times; and what is refused."""
    config = tmp_path / "config"
    config.write_text(f"{line}\nUser last\n")
    outcomes = []
    for path in ("/usr/bin:/bin", "/nonexistent"):
        settings = SshSettings(environment={"PATH": path}, config=config)
        try:
            found = resolve("db00", settings)
        except HostRefused as error:
            assert str(config) in str(error)
            outcomes.append("refused")
        else:
            keys = found.identity_files if line.startswith("IdentityFile") else ()
            outcomes.append(replace(found, identity_files=keys, algorithms={}, gssapi=False))
            outcomes[-1] = (outcomes[-1], found.permits("ciphers", "aes256-ctr"))
    assert outcomes[0] == outcomes[1]
