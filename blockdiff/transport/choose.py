"""Choose the transport to a host: paramiko, unless the `ssh` program is requested or needed.

paramiko runs in this process.  In a process of its own it was measured on two cores, over a real
sshd: no faster, for a fifth more CPU.  The `ssh` program with the same cipher was 3 % faster.
"""

import shutil

from blockdiff.errors import ProgramMissing
from blockdiff.printable import Log
from blockdiff.transport.base import Transport
from blockdiff.transport.destination import Destination
from blockdiff.transport.openssh import OpenSshTransport
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshconfig import NotHonoured


def connect(
    destination: Destination,
    command: str,
    *,
    settings: SshSettings,
    timeout_s: float,
    rsh: str | None = None,
    log: Log | None = None,
) -> Transport:
    """Start a command by the shell of a host.

    `rsh`: the `ssh` program and options for it; `log` takes each line of stderr. Raises
    HostUnreachable, HostRefused or ProgramMissing; with the `ssh` program the first two come
    from the transport's first read or write.
    """
    if rsh is None and not destination.options:
        from blockdiff.transport.paramiko import transport  # takes 0.2 seconds, and local backups do not need it

        try:
            return transport.connect(destination, command, settings=settings, timeout_s=timeout_s, log=log)
        except NotHonoured as error:
            if shutil.which("ssh", path=settings.environment.get("PATH")) is None:
                hint = f"to reach {destination.host}: paramiko cannot honour {error}"
                raise ProgramMissing("ssh", hint=hint) from error
    return OpenSshTransport(destination, command, settings=settings, timeout_s=timeout_s, rsh=rsh, log=log)
