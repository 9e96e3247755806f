"""A source that cannot be read ends a run with its own exit code and one clear line; nothing is published."""

import contextlib
import os
import signal
import socket
import time

import pytest
from engine import back_up
from launched import Launched, Set, loop_device, needs
from programs import until

KIB = 1024
BLOCK = 64 * KIB
BLOCKS = 40
NO_SUCH_VOLUME, READ_FAILED, NO_PERMISSION = 30, 33, 38
BEGUN = "running: {}"


@pytest.fixture
def begun(tmp_path):
    """A set with two good versions, and its source."""
    found = Set(tmp_path / "backups")
    found.source = tmp_path / "volume"
    data = os.urandom(BLOCKS * BLOCK)
    for number in (1, 2):
        data = os.urandom(BLOCK) + data[BLOCK:]
        found.source.write_bytes(data)
        back_up(found.name, found.source)
        found.versions[number] = data
    return found


def fails(begun, source, code, *words, options=(), before=None, prefix=(), **launch):
    """Run a backup that must fail, and prove that it did nothing else."""
    old = begun.files()
    with Launched("blockdiff-backup", *options, begun.name, source, before=prefix, **launch) as run:
        if before is not None:
            before(run)
        found, out, err = run.finish()
    assert (found, out) == (code, "")
    assert err[0] == BEGUN.format(source)
    assert len(err) == 2, err  # one line, no traceback, nothing of the agent's
    assert err[1].startswith("blockdiff: ")
    for word in words:
        assert word in err[1]
    assert begun.files() == old
    assert run.gone()
    begun.check()


def next_run_succeeds(begun, *options):
    with Launched("blockdiff-backup", *options, begun.name, begun.source) as run:
        assert run.finish()[0] == 0
    begun.versions[3] = begun.source.read_bytes()
    begun.check()


def injecting(what, begun, tmp_path):
    """A prefix under which the agent's system calls on the volume fail."""
    needs("strace")
    words = f"strace -f -qq -o {tmp_path}/trace -P {begun.source} -e trace=preadv,preadv2,pread64"
    return f"{words} -e inject=preadv,preadv2,pread64:{what}"


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_read_error_at_the_kth_read(begun, tmp_path, k):
    """The third read begins behind two MiB: versions of which much was sent already are not published, either."""
    prefix = injecting(f"error=EIO:when={k}", begun, tmp_path)
    fails(
        begun, begun.source, READ_FAILED, str(begun.source), "Input/output error at byte", options=["--jobs", "1"],
        env={"SSH_BLOCKDIFF_PREFIX": prefix},
    )  # fmt: skip
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    if k == 2:
        next_run_succeeds(begun)


@pytest.mark.parametrize("full", [[], ["--full"]], ids=["incremental", "full"])
def test_a_read_that_ends_early(begun, tmp_path, full):
    """A device that shrank gives no error, but the end of the file."""
    prefix = injecting("retval=0:when=2", begun, tmp_path)
    fails(
        begun, begun.source, READ_FAILED, "it shrank while it was read", options=full,
        env={"SSH_BLOCKDIFF_PREFIX": prefix},
    )  # fmt: skip


def test_a_file_cut_while_it_is_read(begun):
    """Really cut: the agent is slow, and has the file open when it loses its end."""
    begun.source.write_bytes(os.urandom(BLOCKS * BLOCK))

    def cut(run):
        until(lambda: holds_open(run.agent(), begun.source))
        os.truncate(begun.source, 10 * BLOCK)

    fails(
        begun, begun.source, READ_FAILED, "shrank", options=["--bwlimit", "1M", "--jobs", "1"], before=cut,
    )  # fmt: skip
    next_run_succeeds(begun, "--new-source")  # it has lost more than half


def holds_open(pid, path):
    with contextlib.suppress(OSError):
        folder = f"/proc/{pid}/fd"
        return pid is not None and str(path) in [os.readlink(f"{folder}/{n}") for n in os.listdir(folder)]
    return False


def test_a_file_that_grew_while_it_was_read_is_what_it_was(begun):
    data = os.urandom(21 * BLOCK)
    begun.source.write_bytes(data)
    with Launched("blockdiff-backup", "--bwlimit", "1M", begun.name, begun.source) as run:
        until(lambda: holds_open(run.agent(), begun.source))
        with open(begun.source, "ab") as file:
            file.write(bytes(BLOCK))
        assert run.finish()[0] == 0
    begun.versions[3] = data
    begun.check()


@contextlib.contextmanager
def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        yield


@pytest.mark.parametrize(
    "kind, words",
    [
        ("missing", ["No such file or directory"]),
        ("beneath a file", ["Not a directory"]),
        ("folder", ["it is a folder"]),
        ("fifo", ["it is a pipe"]),
        ("socket", ["it is a socket"]),
        ("null", ["/dev/null", "it is a character device"]),
        ("loop", ["Too many levels of symbolic links"]),
        ("dangling", ["No such file or directory"]),
    ],
)
def test_what_is_no_volume(begun, tmp_path, kind, words):
    path = tmp_path / "it"
    with contextlib.ExitStack() as cleanup:
        if kind == "beneath a file":
            path = begun.source / "it"
        elif kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            cleanup.enter_context(bound_socket(path))
        elif kind == "null":
            path.symlink_to("/dev/null")
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "dangling":
            path.symlink_to(tmp_path / "nowhere")
        fails(begun, path, NO_SUCH_VOLUME, *[w for w in words if w != "/dev/null"], str(path))


def test_a_set_that_fails_at_its_first_version_leaves_nothing(tmp_path):
    new = Set(tmp_path / "new")
    fails(new, tmp_path / "missing", NO_SUCH_VOLUME)
    assert new.files() == {}


def test_a_file_that_must_not_be_read(tmp_path):
    """Root gives up what lets it read everything."""
    found = Set(tmp_path / "backups")
    source = tmp_path / "secret"
    source.write_bytes(b"secret")
    source.chmod(0)
    before = []
    if os.geteuid() == 0:
        needs("setpriv")
        before = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    fails(found, source, NO_PERMISSION, "no permission to read", str(source), "Permission denied", "--sudo", prefix=before)


def test_a_link_to_a_volume_is_the_volume(begun, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(begun.source)
    with Launched("blockdiff-backup", begun.name, link) as run:
        assert run.finish()[0] == 0
    begun.versions[3] = begun.source.read_bytes()
    begun.check()


# block devices


def test_a_block_device(begun, tmp_path):
    """Its size is no multiple of the block size; it is changed, and changed back."""
    image = tmp_path / "image"
    data = bytearray(os.urandom(5 * BLOCK + 512))
    image.write_bytes(data)
    found = Set(tmp_path / "device")
    with loop_device(image) as device:
        for number in (1, 2, 3):
            data[BLOCK * number : BLOCK * number + 4] = b"%04d" % number
            with open(device, "r+b") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with Launched("blockdiff-backup", found.name, device) as run:
                assert run.finish()[0] == 0
            found.versions[number] = bytes(data)
    found.check()
    assert b'"kind":"block"' in found.files()["db.1.json"]


def test_a_block_device_whose_end_is_gone(tmp_path):
    """A loop device over a file that was cut short reads as errors: what a failing disk does."""
    image = tmp_path / "image"
    image.write_bytes(os.urandom(64 * BLOCK))
    found = Set(tmp_path / "device")
    with loop_device(image) as device:
        os.truncate(image, 20 * BLOCK)
        fails(found, device, READ_FAILED, device, "at byte")
    assert found.files() == {}


def test_a_signal_is_no_read_error(begun):
    """What stops a reader for a while changes nothing."""
    begun.source.write_bytes(os.urandom(21 * BLOCK))
    with Launched("blockdiff-backup", "--bwlimit", "1M", begun.name, begun.source) as run:
        until(lambda: holds_open(run.agent(), begun.source))
        os.kill(run.agent(), signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(run.agent(), signal.SIGCONT)
        assert run.finish()[0] == 0
    begun.versions[3] = begun.source.read_bytes()
    begun.check()
