"""The source host of the lab: a User-Mode Linux kernel that runs as an ordinary process.

It boots in a network namespace of its own, sees this machine's programs read-only, and
has real device mapper, LVM on disks of its own and a real sshd whose host key is known
in advance. Both ends of every connection lie in the namespace. Losing power is killing
the process: the disks keep what was written to them, and nothing else survives.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from .namespace import GUEST_MAC, OUR_MAC, PREFIX, Namespace

HERE = pathlib.Path(__file__).parent
CHECKOUT = HERE.parent.parent
HOSTNAME = "db00"  # how the guest calls itself, and how ssh in the namespace finds it
ADDRESS = "10.99.0.2"
OUR_ADDRESS = "10.99.0.1"
BOOT_TIMEOUT_S = 90
MEMORY = 768  # MiB
DISKS = {"ubdb": "2G", "ubdc": "512M", "ubdd": "256M"}  # vg0, vg-two, one that LVM sees not

SSHD_CONFIG = f"""\
HostKey /run/sshd/hostkey
AuthorizedKeysFile /root/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxSessions 100
MaxStartups 100
Subsystem sftp internal-sftp
ListenAddress {ADDRESS}
"""

# Runs its arguments with the lab's keys as ~/.ssh and the guest's name in /etc/hosts. `ip netns exec` has
# already made a mount namespace that shares nothing back, so this is seen by the one command alone.
ENTER = (
    'mount --bind "$0/hosts" /etc/hosts && mkdir -p -m 700 "$1" && mount --bind "$0/ssh" "$1" && shift && exec "$@"'
)


class GuestFailed(Exception):
    """A command in the guest, or the guest itself, failed."""


class Guest:
    """A host with LVM and sshd; `boot` starts it, `close` ends it and leaves nothing."""

    address = ADDRESS
    hostname = HOSTNAME
    checkout = "/run/checkout"  # where the guest sees this checkout, read-only

    def __init__(self, serial=0):
        cpus = sorted(os.sched_getaffinity(0))
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").lstrip("gw")
        self._cpu = cpus[(int(worker) + serial) % len(cpus)]
        self._namespace = Namespace(OUR_ADDRESS, ADDRESS, serial)
        self._process = None
        self._master = None
        self._cut = False
        self._home = pathlib.Path.home() / ".ssh"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.keys = self.folder / "keys"
        self.identity = self.keys / "id"
        self.known_hosts = self.folder / "ssh" / "known_hosts"
        self.namespace = self._namespace.name

    # -- its life

    def open(self):
        """Make keys, disks and network, then boot; raises OSError if this machine does not allow it."""
        self.keys.mkdir()
        for name in ("id", "hostkey"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.keys / name)],
                check=True,
            )
        ssh = self.folder / "ssh"
        ssh.mkdir(mode=0o700)
        shutil.copy(self.identity, ssh / "id_ed25519")
        key = (self.keys / "hostkey.pub").read_text().strip()
        self.known_hosts.write_text(f"{ADDRESS},{HOSTNAME} {key}\n")
        pyenv = pathlib.Path.home() / ".pyenv"
        for name, text in {
            "sshd_config": SSHD_CONFIG,
            "address": ADDRESS,
            "neighbour": f"{OUR_ADDRESS} lladdr {OUR_MAC}",
            "hostname": HOSTNAME,
            "checkout": str(CHECKOUT),
            "pyenv": str(pyenv) if pyenv.is_dir() else "",
            "hosts": f"127.0.0.1 localhost\n{ADDRESS} {HOSTNAME}\n",
        }.items():
            (self.folder / name).write_text(text)
        for name, size in DISKS.items():
            subprocess.run(["truncate", "-s", size, str(self.folder / f"{name}.img")], check=True)
        self._namespace.open()
        self.boot()

    def boot(self):
        """Start it on the disks as they are, and return when it answers."""
        command = [
            # Its kernel and its programs are processes here that wait for each other: on one CPU it is three times as fast.
            "taskset", "--cpu-list", str(self._cpu),
            # the guest must not outlive this process, however that ends
            "setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.namespace,
            "linux.uml", f"mem={MEMORY}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
            f"init={HERE / 'init.sh'}", f"lab={self.folder}", f"uml_dir={self.folder}",
            *(f"{name}={self.folder / name}.img" for name in DISKS),
            f"vec0:transport=tap,ifname=tap0,depth=128,gro=1,mac={GUEST_MAC}", "con=null", "con0=null,fd:1", "quiet",
        ]  # fmt: skip
        with open(self.folder / "console", "ab") as console:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "TMPDIR": str(self._memory_folder()), "HOME": str(self.folder)},
            )
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise GuestFailed("the guest did not boot:\n" + self.console())
            time.sleep(0.1)
        self._connect()
        self.run("udevadm() { :; }; lvs")

    def kill(self):
        """Take its power away."""
        self._disconnect()
        if self._process is None:
            return
        session = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
        self._process.wait()
        self._process = None
        # each process of the guest is a traced process here; none may be left in the session
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    os.kill(int(entry.name), signal.SIGKILL)

    def close(self):
        """End it, and remove everything that was made for it."""
        try:
            self.kill()
        finally:
            self._namespace.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def reset(self):
        """Bring it back to no processes, mounts, volumes or device-mapper devices of a test."""
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self.restore_network()
            self.boot()
        elif self._cut:
            self.restore_network()
        self.run(f"sh {self.checkout}/tests/lab/reset.sh", timeout=120)

    def console(self):
        """Return what the kernel and init said so far."""
        return (self.folder / "console").read_text(errors="replace")[-5000:]

    # -- its network

    def cut_network(self):
        """Cut the cable: packets vanish, and nobody is told that a connection ended."""
        self._cut = True
        self._namespace.cut()

    def restore_network(self):
        """Mend the cable; what is connected goes on after a while, what is new works at once."""
        self._namespace.restore()
        self._cut = False
        if self._process is not None:
            self._connect()  # the lasting one may be backing off

    def listen(self):
        """Return a socket that listens on the loopback of what runs beside the guest."""
        return self._namespace.listen()

    # -- commands

    @property
    def netns(self):
        """Return the words that, put before a command, run it beside the guest: `root@db00` just works."""
        return (
            "ip", "netns", "exec", self.namespace,
            "sh", "-c", ENTER, str(self.folder), str(self._home),
        )  # fmt: skip

    def ssh(self, *, shared=True):
        """Return the words of an ssh command to the guest, by default over one lasting connection."""
        master = ("-S", str(self.folder / "master")) if shared else ("-S", "none")
        return (
            "ip", "netns", "exec", self.namespace, "ssh", "-F", "none", *master, "-i", str(self.identity),
            "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=10", f"root@{ADDRESS}",
        )  # fmt: skip

    def run(self, command, *, input=None, check=True, timeout=60):
        """Run a shell command in the guest and return its output; raises GuestFailed."""
        try:
            done = subprocess.run(
                [*self.ssh(), command],
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise GuestFailed(f"{command}: no end after {timeout} s\n{self.console()}") from error
        if check and done.returncode != 0:
            raise GuestFailed(f"{command}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def popen(self, command, *, shared=True, **options):
        """Start a shell command in the guest; options as for subprocess.Popen."""
        return subprocess.Popen([*self.ssh(shared=shared), command], **options)

    # -- volumes for tests

    def bad_volume(self):
        """Make a thick volume of 32 MiB with one bad sector 20 MiB into it; return its path."""
        self.run(
            "dmsetup create --noudevrules --noudevsync dust --table "
            '"0 $(blockdev --getsz /dev/ubdd) dust /dev/ubdd 0 512" && '
            "{ test -e /dev/mapper/dust || mknod /dev/mapper/dust b "
            "$(dmsetup info -c --noheadings --separator ' ' -o major,minor dust); } && "
            "pvcreate -qq -y /dev/mapper/dust && vgcreate -qq bad /dev/mapper/dust && "
            "lvcreate -qq -y -Zn -Wn -L 32M -n lv bad"
        )
        begin = int(self.run("pvs --noheadings --units s --nosuffix -o pe_start /dev/mapper/dust"))
        sector = begin + 20 * 2048
        self.run(f"dmsetup message dust 0 addbadblock {sector} && dmsetup message dust 0 enable")
        return "/dev/bad/lv"

    # -- below

    def _answers(self):
        probe = [*self.ssh(shared=False), "true"]
        probe[probe.index("ConnectTimeout=10")] = "ConnectTimeout=1"
        return subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0

    def _connect(self):
        self._disconnect()
        self._master = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self.ssh()[:-1], "-M", "-N", self.ssh()[-1]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._master_answers():
            if self._master.poll() is not None or time.monotonic() > deadline:
                raise GuestFailed("no ssh connection to the guest\n" + self.console())
            time.sleep(0.05)

    def _master_answers(self):
        check = [*self.ssh()[:-1], "-O", "check", self.ssh()[-1]]
        return subprocess.run(check, capture_output=True).returncode == 0

    def _disconnect(self):
        if self._master is not None:
            self._master.kill()
            self._master.wait()
            self._master = None
        (self.folder / "master").unlink(missing_ok=True)

    def _memory_folder(self):
        """Return where the guest's memory file fits: /dev/shm, which containers like to keep small."""
        room = os.statvfs("/dev/shm")
        free = room.f_bavail * room.f_frsize
        usable = free > 2 * MEMORY * 1024**2 and not room.f_flag & os.ST_NOEXEC
        return pathlib.Path("/dev/shm") if usable else self.folder
