"""The options of ssh_config for one host.

If the ssh program is installed, `ssh -G` is asked: it knows Include, Match and all the rest.
Otherwise the files are read here, plain Host blocks only; anything else in them is an error
and not ignored, since the safety of a host could depend on it.

Options that only make a connection faster or more convenient are ignored, and so are those that
would make it less safe. The keywords: blockdiff(7), "SSH configuration".
"""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blockdiff.errors import HostRefused
from blockdiff.printable import visible
from blockdiff.transport import configlines
from blockdiff.transport.knownhosts import matches
from blockdiff.transport.settings import SshSettings

Options = Mapping[str, list[str]]  # keyword in lower case -> the values of its lines
Run = Callable[..., "subprocess.CompletedProcess[str]"]

DEFAULT_PORT = 22
DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
RESOLVE_S = 60.0  # for `ssh -G`, which may run commands of the user's (Match exec) and look up names
_ALGORITHMS = ("ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "pubkeyacceptedalgorithms")
_OFF = frozenset(("none", "no", "false", "0", "default", "internal", ""))

# they decide which host keys are trusted or how the host is reached, and only the program supports them
_BEYOND = {
    "bindinterface": "BindInterface",
    "certificatefile": "CertificateFile",
    "knownhostscommand": "KnownHostsCommand",
    "pkcs11provider": "PKCS11Provider",
    "proxyusefdpass": "ProxyUseFdpass",
    "refuseconnection": "RefuseConnection",
    "revokedhostkeys": "RevokedHostKeys",
}


class NotHonoured(Exception):
    """Something that only the `ssh` program can do is needed to reach a host; its argument names it."""


@dataclass(frozen=True)
class HostConfig:
    """How to reach one host, the user to log in as, and how to check its key."""

    name: str  # as the user gave it
    hostname: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_only: bool
    agent_socket: Path | None
    jumps: tuple[str, ...]  # [user@]host[:port], first hop first
    proxy_command: str | None  # a line for a shell, tokens expanded
    known_hosts_files: tuple[Path, ...]
    key_alias: str | None  # the name to look up in known_hosts instead
    address_family: str  # any, inet, inet6
    bind_address: str | None
    keepalive_s: int
    connect_timeout_s: int | None  # for the connection and the handshake
    environment: tuple[tuple[str, str], ...]  # to set on the host
    algorithms: Mapping[str, str]  # keyword -> a list of ssh_config(5); no entry = anything
    beyond: tuple[str, ...]  # keywords that only the `ssh` program can honour
    gssapi: bool
    hostbased: bool

    def permits(self, keyword: str, name: str) -> bool:
        """Return whether an algorithm may be used, by the list of that keyword."""
        rule = self.algorithms.get(keyword, "*")
        if rule.startswith(("+", "^")):  # in addition to the defaults
            return True
        if rule.startswith("-"):
            return not matches(name, rule[1:].split(","))
        return matches(name, rule.split(","))


def resolve(
    name: str, settings: SshSettings, *, user: str | None = None, port: int | None = None,
    run: Run = subprocess.run,
) -> HostConfig:  # fmt: skip
    """Return the configuration for a host; `user` and `port` override it.

    Raises NotHonoured for a configuration that only ssh can read if ssh is missing, HostRefused if the
    configuration is faulty.
    """
    program = shutil.which("ssh", path=settings.environment.get("PATH"))
    if program is None:
        options: Options = read_without_program(name, settings)
    else:
        options = _ask(program, name, settings, user, port, run)
    return _interpret(name, options, settings, user, port)


def parse_options(text: str) -> Options:
    """Return the output of `ssh -G` as options."""
    options: dict[str, list[str]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        options.setdefault(configlines.keyword(keyword), []).append(value)
    return options


def _ask(program: str, name: str, settings: SshSettings, user: str | None, port: int | None, run: Run) -> Options:
    command = [program, "-T"]
    command += ["-F", str(settings.config)] if settings.config else []
    command += ["-l", user] if user else []
    command += ["-p", str(port)] if port else []
    return effective([*command, "--", name], name, settings, run)


def effective(command: Sequence[str], name: str, settings: SshSettings, run: Run = subprocess.run) -> Options:
    """Return the options that an ssh command line results in, by `ssh -G`; `name`: the host, for messages.

    Raises HostRefused if it finds the configuration faulty, OSError if it cannot be started.
    """
    program, *words = command
    try:
        done = run(
            [program, "-G", *words], env=dict(settings.environment), timeout=RESOLVE_S,
            capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise HostRefused(name, f"ssh -G takes longer than {RESOLVE_S:.0f} seconds") from error
    if done.returncode != 0:
        lines = [visible(line) for line in done.stderr.splitlines() if line.strip()]
        raise HostRefused(name, lines[0] if lines else "ssh -G failed", hint="see ssh_config(5)")
    return parse_options(done.stdout)


def read_without_program(name: str, settings: SshSettings) -> Options:
    """Read the configuration files; raises NotHonoured for anything but plain Host blocks."""
    if settings.config is not None:
        files = [settings.config]
    else:
        files = [settings.home / ".ssh/config", settings.system_config]
    options: dict[str, list[str]] = {}
    for file in files:
        applies = True
        try:
            text = file.read_text(errors="surrogateescape")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostRefused(name, f"cannot read {file}: {error.strerror}") from error
        for number, line in enumerate(text.split("\n"), 1):
            try:
                parsed = configlines.parse(line)
            except ValueError as error:
                raise HostRefused(name, f"{file} line {number}: {error}", hint="see ssh_config(5)") from error
            if parsed is None:
                continue
            keyword, values = parsed
            if keyword == "host":
                applies = matches(name, values)
            elif keyword == "include" and not _includes_nothing(values, file, settings):
                raise NotHonoured(f"Include in {file}")
            elif keyword in ("match", "canonicalizehostname") and values[0].lower() not in _OFF:
                raise NotHonoured(f"{keyword.capitalize()} in {file}")
            elif applies and (keyword == "identityfile" or keyword not in options):
                if keyword == "hostname":
                    values = [values[0].replace("%h", name).replace("%%", "%")]
                options.setdefault(keyword, []).extend(values if keyword == "setenv" else [" ".join(values)])
    return options


def _includes_nothing(patterns: list[str], file: Path, settings: SshSettings) -> bool:
    base = Path("/etc/ssh") if file == settings.system_config else settings.home / ".ssh"
    for pattern in patterns:
        path = base / pattern.replace("~", str(settings.home), 1)
        if any(Path("/").glob(str(path).lstrip("/"))):
            return False
    return True


def _interpret(name: str, options: Options, settings: SshSettings, user: str | None, port: int | None) -> HostConfig:
    def one(keyword: str, default: str = "") -> str:
        return options.get(keyword, [default])[0]

    def chosen(keyword: str) -> str | None:
        value = one(keyword)
        return None if value.lower() in _OFF else value

    def yes(keyword: str) -> bool:
        return one(keyword).lower() in ("yes", "true")

    def seconds(keyword: str) -> int | None:
        return int(one(keyword)) or None if one(keyword).isdigit() else None

    hostname = one("hostname", name)
    user = user or one("user", settings.user)
    port = port or int(one("port", str(DEFAULT_PORT)))
    alias = chosen("hostkeyalias")
    local = socket.gethostname()
    tokens = {
        "%": "%", "h": hostname, "n": name, "p": str(port), "r": user, "u": settings.user,
        "d": str(settings.home), "k": alias or hostname, "l": local, "L": local.partition(".")[0],
        "j": one("proxyjump"),
    }  # fmt: skip

    def expand(keyword: str, value: str) -> str:
        def token(match: re.Match[str]) -> str:
            if match[1] not in tokens:
                raise NotHonoured(f"%{match[1]} in {keyword}")
            return tokens[match[1]]

        return re.sub("%(.?)", token, value)

    def path(keyword: str, value: str) -> Path:
        def variable(match: re.Match[str]) -> str:
            if match[1] not in settings.environment:
                raise NotHonoured(f"${{{match[1]}}} in {keyword}")
            return settings.environment[match[1]]

        value = re.sub(r"\$\{(\w+)\}", variable, expand(keyword, value))
        if value == "~" or value.startswith("~/"):
            return settings.home / value[2:]
        try:
            return Path(value).expanduser() if value.startswith("~") else Path(value)
        except RuntimeError as error:  # no such user
            raise NotHonoured(f"{value} in {keyword}") from error

    def paths(keyword: str, default: str) -> list[Path]:
        # the names follow each other without quotes; a word that does not begin like a path
        # belongs to the one before it
        words: list[str] = []
        for word in one(keyword, default).split(" "):
            if words and not word.startswith(("/", "~", "%", "$")) and word != "none":
                words[-1] += f" {word}"
            else:
                words.append(word)
        return [path(keyword, word) for word in words if word and word != "none"]

    agent = one("identityagent", "SSH_AUTH_SOCK")
    if agent == "SSH_AUTH_SOCK" or (agent.startswith("$") and not agent.startswith("${")):
        agent = settings.environment.get(agent.lstrip("$"), "none") or "none"

    beyond = [spelled for keyword, spelled in _BEYOND.items() if chosen(keyword)]
    if one("pubkeyauthentication").lower() in ("no", "false"):
        beyond.append("PubkeyAuthentication no")
    if "publickey" not in one("preferredauthentications", "publickey").split(","):
        beyond.append("PreferredAuthentications")
    if int(one("requiredrsasize", "1024")) > 1024:
        beyond.append("RequiredRSASize")

    proxy_command = chosen("proxycommand")
    jump = chosen("proxyjump")
    keys = options.get("identityfile", [f"~/.ssh/{key}" for key in DEFAULT_KEYS])
    known = "~/.ssh/known_hosts ~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
    return HostConfig(
        name=name,
        hostname=hostname,
        port=port,
        user=user,
        identity_files=tuple(path("IdentityFile", value) for value in keys if value != "none"),
        identities_only=yes("identitiesonly"),
        agent_socket=None if agent == "none" else path("IdentityAgent", agent),
        jumps=tuple(hop.strip() for hop in jump.split(",")) if jump else (),
        proxy_command=expand("ProxyCommand", proxy_command) if proxy_command else None,
        known_hosts_files=(*paths("userknownhostsfile", known[0]), *paths("globalknownhostsfile", known[1])),
        key_alias=alias,
        address_family=one("addressfamily", "any"),
        bind_address=chosen("bindaddress"),
        keepalive_s=seconds("serveraliveinterval") or 0,
        connect_timeout_s=seconds("connecttimeout"),
        environment=tuple((word.partition("=")[0], word.partition("=")[2]) for word in options.get("setenv", ())),
        algorithms={keyword: options[keyword][0] for keyword in _ALGORITHMS if keyword in options},
        beyond=tuple(beyond),
        gssapi=yes("gssapiauthentication"),
        hostbased=yes("hostbasedauthentication"),
    )
