"""The command line of the `ssh` program, which keeps our promises whatever the configuration contains.

Each keyword of ssh_config(5) was checked: those that could change which host keys are accepted, or
what is learnt, forwarded, shared or run, are set; all others are left to the user.
Format: blockdiff(7), "SSH configuration".

For a jump host ssh would start another ssh without our options. So it gets a ProxyCommand
instead of ProxyJump, which does the same with our options.
"""

import contextlib
import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from blockdiff.errors import HostRefused, HostUnreachable
from blockdiff.transport.destination import Destination, parse_hop
from blockdiff.transport.settings import SshSettings
from blockdiff.transport.sshconfig import Options, effective

KEEPALIVE_S = 15
MAX_DEPTH = 8  # jump hosts behind jump hosts

_ALWAYS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "NoHostAuthenticationForLocalhost": "no",
    "VerifyHostKeyDNS": "no",  # known_hosts decides, not a name server
    "UpdateHostKeys": "no",  # a server cannot add keys to known_hosts
    "CheckHostIP": "no",  # it adds addresses to known_hosts, also with strict checking
    "AddKeysToAgent": "no",
    "ClearAllForwardings": "yes",  # of ports, sockets and tunnels
    "ControlMaster": "no",  # a shared connection was made by other rules, and ends with another session
    "ControlPath": "none",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "EscapeChar": "none",
    "LogLevel": "INFO",  # QUIET would hide the reason
}
# the same for OpenSSH 8.7 and newer; an older one would refuse the command line
_NEWER = {"SessionType": "default", "StdinNull": "no", "ForkAfterAuthentication": "no"}
# flags override options, wherever these are: no agent, no X11, no Kerberos ticket, no terminal
_FLAGS = ("-a", "-x", "-k", "-T")


def arguments(
    destination: Destination, command: str, *, rsh: str | None, settings: SshSettings, timeout_s: float
) -> tuple[list[str], Options]:
    """Return the command line, and the options that the program would use without ours.

    ssh takes the first value of an option, so those in `rsh` override ours. Raises HostRefused if it
    finds the configuration faulty.
    """
    if rsh is not None:
        words = shlex.split(rsh)
    else:
        words = ["ssh", *(["-F", str(settings.config)] if settings.config else [])]
    # after "--" a host name cannot be taken for an option
    end = [*destination.options, *_FLAGS, "--", str(destination)]
    known: Options = {}
    if PurePath(words[0]).name == "ssh":  # another program may not know -G
        with contextlib.suppress(OSError):
            known = effective([*words, *end], destination.host, settings)
    options = _options(known, timeout_s)
    jump = known.get("proxyjump", ["none"])[0]
    if jump != "none":
        program = [words[0], *_configuration([*words, *destination.options])]
        options += ["-o", f"ProxyCommand={_through(jump.split(','), program, settings, timeout_s)}"]
        end = [*_without_jump(destination.options), *end[len(destination.options) :]]
    return [*words, *options, *end, command], known


def _options(known: Options, timeout_s: float) -> list[str]:
    def seconds(keyword: str, otherwise: float) -> float:
        value = known.get(keyword, [""])[0]
        return int(value) if value.isdigit() and int(value) else otherwise

    alive_s = seconds("serveraliveinterval", KEEPALIVE_S)
    ours = {
        **_ALWAYS,
        **{name: value for name, value in _NEWER.items() if name.lower() in known},
        "ConnectTimeout": max(1, round(min(timeout_s, seconds("connecttimeout", timeout_s)))),
        "ServerAliveInterval": alive_s,
        "ServerAliveCountMax": max(3, round(timeout_s / alive_s)),
    }
    return [word for name, value in ours.items() for word in ("-o", f"{name}={value}")]


def _through(
    hops: Sequence[str], program: Sequence[str], settings: SshSettings, timeout_s: float, depth: int = 0
) -> str:
    """Return the ProxyCommand that goes through all hops, in order."""
    *before, last = hops
    try:
        user, host, port = parse_hop(last)
    except ValueError as error:
        raise HostRefused(last, f"as a jump host: {error}") from error
    way = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
    known = effective([*program, *way, "--", host], host, settings)
    jump = known.get("proxyjump", ["none"])[0]
    if not before and jump != "none":
        if depth == MAX_DEPTH:
            raise HostUnreachable(host, "its jump hosts form a loop")
        before = jump.split(",")
    options = _options(known, timeout_s)
    if before:
        options += ["-o", f"ProxyCommand={_through(before, program, settings, timeout_s, depth + 1)}"]
    # the ssh that runs it expands %h and %p; every other % is for the next ssh
    words = shlex.join([*program, *options, *way]).replace("%", "%%")
    return f"{words} -W '[%h]:%p' -- {shlex.quote(host)}"


def _configuration(words: Iterable[str]) -> list[str]:
    """Return -F and its file, which ssh passes on to the ssh for a jump host."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "-F":
            found = ["-F", next(rest, "none")]
        elif word.startswith("-F"):
            found = ["-F", word[2:]]
    return found


def _without_jump(words: Iterable[str]) -> list[str]:
    """Return the words without -J, which ssh refuses together with a ProxyCommand."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "-J":
            next(rest, None)
        elif not word.startswith("-J"):
            found.append(word)
    return found
