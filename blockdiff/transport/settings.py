"""Where the files of ssh are on this machine: configuration, home folder, ssh-agent."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


def _home() -> Path:
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


@dataclass(frozen=True)
class SshSettings:
    """What decides how a host is reached, apart from the destination.

    `home` and `user` are those of the password file, as for ssh: $HOME is not used.
    """

    environment: Mapping[str, str]  # for SSH_AUTH_SOCK, PATH and the programs that are started
    config: Path | None = None  # instead of ~/.ssh/config and /etc/ssh/ssh_config, as with ssh -F
    home: Path = field(default_factory=_home)
    user: str = field(default_factory=_user)
    system_config: Path = Path("/etc/ssh/ssh_config")
