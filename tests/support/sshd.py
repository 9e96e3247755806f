"""A real sshd of the test's own: a free loopback port, its own keys, a client's own configuration.

`Lab` is the client: a folder with a key, a config, a known_hosts and a home for those who log in.
`Lab.server` starts an sshd and makes the client know it under an alias. Nothing outside the
folder is read or written, except by `sudo_user`, which is for root only and undoes what it does.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from blockdiff.transport.settings import SshSettings

NEEDED = ("/usr/sbin/sshd", "ssh", "ssh-keygen", "ssh-agent", "ssh-add")
MISSING = next((name for name in NEEDED if shutil.which(name) is None), None)
REQUIRED = os.environ.get("BLOCKDIFF_REQUIRE_LAB") == "1"
USER = pwd.getpwuid(os.geteuid()).pw_name
SHELL = pwd.getpwuid(os.geteuid()).pw_shell


def keygen(path, *options):
    """Make a key pair without a passphrase at path and return path."""
    arguments = ["ssh-keygen", "-q", "-f", str(path), *options]
    if "-t" not in options:
        arguments += ["-t", "ed25519"]
    if "-N" not in options:
        arguments += ["-N", ""]
    subprocess.run(arguments, check=True, stdin=subprocess.DEVNULL)
    return path


def public(path):
    """Return type and blob of the public key beside a private one, as one line."""
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def free_port(address="127.0.0.1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


class Sshd:
    """One server process.

    `bashrc` is what the shell reads before every command, `path` the PATH of commands,
    `options` are more lines of sshd_config.
    """

    def __init__(self, folder, authorized_keys, *, address="127.0.0.1", bashrc="", path="", options=()):
        self.folder = folder
        self.address = address
        self.port = free_port(address)
        self.login_home = folder / "home"
        self.login_home.mkdir(parents=True)
        folder.chmod(0o755)
        (self.login_home / ".bashrc").write_text(bashrc)
        self.host_key = keygen(folder / "host_ed25519")
        self.log = folder / "log"
        environment = [f"HOME={self.login_home}"] + ([f"PATH={path}"] if path else [])
        bracketed = f"[{address}]" if ":" in address else address
        self._config = folder / "sshd_config"
        self._config.write_text(
            "\n".join(
                [
                    *options,
                    f"ListenAddress {bracketed}:{self.port}",
                    f"HostKey {self.host_key}",
                    f"AuthorizedKeysFile {authorized_keys}",
                    f"SetEnv {' '.join(environment)}",
                    "PidFile none",
                    "UsePAM no",
                    "StrictModes no",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin prohibit-password",
                    "LogLevel VERBOSE",
                    "UseDNS no",
                    "MaxStartups 100",
                    "",
                ]
            )
        )
        self.process = None
        self.start()

    def start(self):
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation wants it
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(self._config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        for _ in range(1000):
            with contextlib.suppress(OSError):
                socket.create_connection((self.address, self.port), 1).close()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.stop()
        raise RuntimeError(f"sshd does not start: {self.log.read_text()}")

    def connections(self):
        """Return the processes that serve this server's connections, children first."""
        family = _descendants(self.process.pid)
        return [pid for pid in reversed(family) if _is_sshd(pid)]

    def cut(self):
        """End all connections at once, as a crash of the other side would."""
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self):
        """End the server and everything that was started through it."""
        if self.process is None:
            return
        family = _descendants(self.process.pid)
        for pid in [self.process.pid, *family]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


class Lab:
    """A client: its folder, key, config, known_hosts, and the servers that it started."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ssh-lab-"))
        self.folder.chmod(0o755)  # another user's sshd process reads authorized_keys here
        self.config = self.folder / "config"
        self.known_hosts = self.folder / "known_hosts"
        self.authorized_keys = self.folder / "authorized_keys"
        self.key = keygen(self.folder / "id")
        self.known_hosts.write_text("")
        self.config.write_text("")
        self.authorized_keys.write_text(public(self.key) + "\n")
        self.servers = []
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "KRB5CCNAME")
        }
        self._cleanup = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._cleanup.close()
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def settings(self):
        """What `connect` takes to see this client's configuration and nothing else."""
        return SshSettings(environment=self.environment, config=self.config, home=self.folder)

    @property
    def rsh(self):
        """The same for the `ssh` program: a value for --rsh."""
        return f"ssh -F {self.config}"

    def server(self, alias="source", *, known=True, extra=(), **options):
        """Start a server and let the client reach it as `alias`; `extra` are more lines for that Host."""
        server = Sshd(self.folder / f"server-{len(self.servers)}", self.authorized_keys, **options)
        self.servers.append(server)
        server.alias = alias
        self.configure(
            alias, f"HostName {server.address}", f"Port {server.port}", *extra,
            f"User {USER}", f"IdentityFile {self.key}", "IdentitiesOnly yes",
        )  # fmt: skip
        if known:
            self.know(server)
        return server

    def configure(self, alias, *lines):
        """Put a Host before what the config holds, so that its lines win."""
        known = (f"UserKnownHostsFile {self.known_hosts}", "GlobalKnownHostsFile /dev/null")
        block = "\n    ".join([f"Host {alias}", *lines, *known])
        self.config.write_text(f"{block}\n\n{self.config.read_text()}")

    def know(self, server, marker="", key=None):
        """Add a server's host key (or another key) to known_hosts."""
        line = f"[{server.address}]:{server.port} {public(key or server.host_key)}\n"
        with open(self.known_hosts, "a") as file:
            file.write(f"{marker} {line}" if marker else line)

    def agent(self, *keys):
        """Start an ssh-agent that holds keys, and make it the client's."""
        path = self.folder / f"agent-{secrets.token_hex(4)}"
        process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(path)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._cleanup.callback(_end, process)
        while not _listens(path):
            assert process.poll() is None
            time.sleep(0.01)
        self.environment["SSH_AUTH_SOCK"] = str(path)
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", str(key)], check=True, env=self.environment,
                stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return path


def _listens(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


@contextlib.contextmanager
def sudo_user():
    """Yield the name of a user who may become root through sudo without a password; for root only."""
    name = f"bd-{secrets.token_hex(4)}"
    rule = Path("/etc/sudoers.d") / name
    home = tempfile.mkdtemp(prefix="sudo-home-")
    try:
        # "*" is no password, yet not locked: sshd without PAM refuses locked accounts
        command = ["useradd", "--no-create-home", "--home-dir", home, "--shell", "/bin/bash"]
        subprocess.run([*command, "--password", "*", name], check=True, stderr=subprocess.DEVNULL)
        shutil.chown(home, name)
        rule.write_text(f"{name} ALL=(ALL) NOPASSWD: ALL\n")
        rule.chmod(0o440)
        yield name
    finally:
        rule.unlink(missing_ok=True)
        shutil.rmtree(home, ignore_errors=True)
        deadline = time.monotonic() + 10
        while processes := list(_owned_by(name)):  # userdel refuses as long as there are some
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        # --force: a killed process is still counted until its parent has looked
        subprocess.run(["userdel", "--force", name], check=False, capture_output=True)
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            raise RuntimeError(f"the user {name} could not be removed")


def available():
    """Skip the test where OpenSSH is missing, fail it if that is required."""
    if MISSING is not None:
        reason = f"{MISSING} is missing (Debian: openssh-server, openssh-client)"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def ssh_lab():
    """A client without servers."""
    available()
    with Lab() as lab:
        yield lab


@pytest.fixture
def sshd(ssh_lab):
    """A server that the client knows as "source"."""
    return ssh_lab.server()


def _end(process):
    process.kill()
    process.wait()


def _owned_by(name):
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(name).pw_uid
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == uid:
                    yield int(entry.name)


def _parents():
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def _descendants(pid):
    """Return a process's children and theirs, parents first."""
    parents = _parents()
    found = [pid]
    for ancestor in found:
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def _is_sshd(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    return False
