"""What every test may use; what the report says of the lab; how tests are spread over several workers."""

import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import places
import pytest
from cuts import cuts
from disks import guests
from exports import fuse, nbdkit
from lab.conftest import missing
from lab.namespace import PREFIX
from objectstores import bucket, objectstore, store_environment
from programs import Program
from verbs import plain_set, run_verb

__all__ = [
    "bucket", "cuts", "fuse", "guests", "nbdkit", "objectstore", "plain_set", "run_verb", "store_environment",
]  # fmt: skip

ROOT = places.ROOT
LAB = ROOT / "tests" / "lab"
DISK = tempfile.gettempdir()
MEMORY = pathlib.Path("/dev/shm")
SSH = pathlib.Path.home() / ".ssh"
ROOM = 8 << 30  # bytes that must be free there
EXTENSION = "blockdiff.blocks._md5lanes"
OURS = (  # that our programs look at, and that whoever runs the tests may have set
    "BLOCKDIFF_RSH", "BLOCKDIFF_SSH_CONFIG", "BLOCKSIZE", "LVCREATE_PREFIX", "MYSQL_PWD", "SNAPSHOT_SIZE",
    "SSH_BLOCKDIFF_PREFIX", "VERBOSE",
)  # fmt: skip

# what fails in the contracts of codecs and transports shows its values, as in a test
pytest.register_assert_rewrite("contract", "transports")


def pytest_addoption(parser):
    """Add --md5."""
    parser.addoption("--md5", metavar="WHAT", help="compute MD5s with hashlib, or with this build of the extension")


def pytest_configure(config):
    """Prepare what all tests share."""
    _use_md5(config.getoption("--md5"))
    # nohup and a shell's & have these ignored, also in all that tests start
    for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    # temporary folders are in memory, where fsync costs nothing: half of the tests' time was that of the disk
    if MEMORY.is_dir():
        room = os.statvfs(MEMORY)
        if room.f_bavail * room.f_frsize > ROOM and not room.f_flag & os.ST_NOEXEC:
            tempfile.tempdir = str(MEMORY)
    if not hasattr(config, "workerinput") and not SSH.is_dir():
        config.add_cleanup(_without_ssh)


def _use_md5(wanted):
    """Put what --md5 names in the extension's place, before anything imports that."""
    if not wanted:
        return
    assert "blockdiff.blocks.md5many" not in sys.modules
    module = None  # what cannot be imported
    if wanted != "hashlib":
        spec = importlib.util.spec_from_file_location(EXTENSION, wanted)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    sys.modules[EXTENSION] = module


def _without_ssh():
    """Remove the ~/.ssh that guests used as a mount point, unless those of another run still do."""
    if not any(pathlib.Path("/run/netns").glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError):
            SSH.rmdir()


def pytest_report_header():
    """Say what computes MD5s, and whether the lab runs, and why not."""
    from blockdiff.blocks import md5many

    lines = [f"md5: {md5many.engine}"]
    reason = missing()
    if reason is None:
        return [*lines, "lab: real LVM, sshd and MariaDB in a guest"]
    required = os.environ.get("BLOCKDIFF_REQUIRE_LAB") == "1"
    return [*lines, f"lab: {'REQUIRED, BUT IT CANNOT RUN' if required else 'skipped'}: {reason}"]


def pytest_collection_modifyitems(config, items):
    """Mark what needs an object store and the lab's tests, and have the lab's run first: they take longest."""
    for item in items:
        if "objectstore" in item.fixturenames:
            item.add_marker("store")
        if LAB in item.path.parents:
            item.add_marker("lab")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LAB not in item.path.parents)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Start one worker more than there are cores: tests also wait, for a guest, a deadline or a server."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture
def disk():
    """A folder where the system has temporary files: on a disk, as a rule, for what cannot be done in memory."""
    with tempfile.TemporaryDirectory(dir=DISK, prefix="blockdiff-test-") as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def run():
    """Return a function that runs a program of bin/ to its end, as a person or cron does."""

    def run(program, *arguments, env=None, stdin=subprocess.DEVNULL, input=None, text=True, timeout=120, **options):
        """Return the CompletedProcess with its output; `env` is added to the environment."""
        environment = {name: value for name, value in os.environ.items() if name not in OURS}
        # without a .venv in the checkout, the launchers take python3: then the one that runs the tests
        environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
        environment.update(env or {})
        if input is not None:
            stdin = subprocess.PIPE
        words = [os.fspath(ROOT / "bin" / program), *map(os.fspath, arguments)]
        pipe = subprocess.PIPE
        with Program(words, env=environment, stdin=stdin, stdout=pipe, stderr=pipe, text=text, **options) as process:
            out, err = process.communicate(input, timeout=timeout)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    return run
