"""What every test may use; what the report says of the lab; how tests are spread over several workers."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import places
import pytest
from lab.conftest import missing
from programs import Program
from verbs import plain_set, run_verb

__all__ = ["plain_set", "run_verb"]

ROOT = places.ROOT
LAB = ROOT / "tests" / "lab"
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
    """Put what --md5 names in the extension's place, before anything imports that."""
    wanted = config.getoption("--md5")
    if not wanted:
        return
    assert "blockdiff.blocks.md5many" not in sys.modules
    module = None  # what cannot be imported
    if wanted != "hashlib":
        spec = importlib.util.spec_from_file_location(EXTENSION, wanted)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    sys.modules[EXTENSION] = module


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
    """Mark the lab's tests, and have them run first."""
    for item in items:
        if LAB in item.path.parents:
            item.add_marker("lab")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LAB not in item.path.parents)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give every file to one worker, and the lab as a whole to one, the first.

    Servers are started once per file, and the guest, which takes longest and mostly waits, once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.partition("::")[0]
            return "lab" if path.startswith("tests/lab/") else path

    config.option.loadscopereorder = False  # in the order above, not the largest first
    return ByFile(config, log)


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


@pytest.fixture
def shm(tmp_path):
    """A folder where fsync is for nothing, if there is one: these tests write a lot."""
    base = pathlib.Path("/dev/shm")
    if not os.access(base, os.W_OK):
        yield tmp_path
        return
    folder = base / f"blockdiff-test-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)
