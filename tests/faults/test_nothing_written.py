"""Nothing is written on the source host: every system call of a real agent is looked at."""

import os
import re

import interpreters
import pytest
from engine import back_up, restored
from tracing import calls, needs_strace, traced

# all that can change a file system, whether it works or not
CHANGING = {
    "creat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "link", "linkat",
    "symlink", "symlinkat", "mknod", "mknodat", "truncate", "ftruncate", "fallocate", "chmod", "fchmod", "fchmodat",
    "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "utimensat", "futimesat", "setxattr",
    "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr", "mount", "umount2", "pivot_root",
    "chroot", "swapon", "swapoff", "copy_file_range", "sendfile", "splice", "bind", "pwritev2", "memfd_create",
}  # fmt: skip
WRITING = {"write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg"}
OPENING = {"open", "openat", "openat2"}
NOT_READING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE|O_APPEND")


def offences(log):
    """Return every call that could have changed something, as text; and how many calls there were."""
    found, count, wires = [], 0, {1, 2}
    for name, arguments, result in calls(log):
        count += 1
        first = arguments.partition(",")[0].partition("<")[0].strip()
        if name in ("dup", "fcntl") and "SETFL" not in arguments and result.isdigit():
            if first in map(str, wires) and (name == "dup" or "DUPFD" in arguments):
                wires.add(int(result))  # the wire under another number
        elif name in ("dup2", "dup3"):
            pass  # onto 0 to 2 only, which the names below show
        elif name == "close" and first.isdigit() and int(first) > 2:
            wires.discard(int(first))
        elif name in CHANGING or (name in OPENING and NOT_READING.search(arguments)):
            # the null device is where a child's input comes from; nothing is kept there
            if not (name in OPENING and '"/dev/null"' in arguments):
                found.append(f"{name}({arguments}) = {result}")
        elif name in WRITING and (not first.isdigit() or int(first) not in wires):
            found.append(f"{name}({arguments}) = {result}")
    return found, count


def listing(folder):
    """Everything below a folder with what would change if it were touched."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = os.lstat(path)
        found[path] = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_mode)
    return found


@pytest.mark.parametrize("python", interpreters.some())
def test_a_backup_leaves_no_trace_on_its_source(python, tmp_path):
    needs_strace()
    source, sets = tmp_path / "source", tmp_path / "sets"
    source.mkdir()
    sets.mkdir()
    volume = bytearray(os.urandom(300_000) + bytes(300_000) + b"text " * 60_000)
    (source / "vol").write_bytes(volume)
    for number in (1, 2):
        if number == 2:
            volume[5000:5005] = b"edit."
            with open(source / "vol", "r+b") as file:
                file.write(volume)
        before = listing(source)
        log = tmp_path / f"strace.{number}"
        back_up(
            sets / "set", source / "vol", connect=traced("-o", log, "-s", 200, python=python, cwd=source), pack_wire=True
        )
        assert listing(source) == before
        found, count = offences(log)
        assert count > 100  # it was looked at
        assert found == []
    for number in (1, 2):
        restored(sets / "set", number, tmp_path / "out")
    assert restored(sets / "set", 2, tmp_path / "out") == volume


@pytest.mark.parametrize(
    "program, expected",
    [
        ("open('made', 'w').close()", "O_CREAT"),
        ("import os; os.open('there', os.O_RDWR)", "O_RDWR"),
        ("import os; os.unlink('there')", "unlink"),
        ("import os; os.mkdir('folder')", "mkdir"),
        ("import os; os.rename('there', 'gone')", "rename"),
        ("import os; os.chmod('there', 0)", "chmod"),
        ("import os; os.utime('there')", "utimensat"),
        ("import os; os.write(os.open('there', os.O_RDONLY), b'x')", "write"),
        ("import subprocess; subprocess.call(['sh', '-c', 'echo x > made'])", "O_CREAT"),
    ],
)
def test_the_look_itself_finds_what_writes(program, expected, tmp_path):
    """The check is no better than what it finds: each of these is found."""
    needs_strace()
    import subprocess
    import sys

    (tmp_path / "there").write_bytes(b"x")
    log = tmp_path / "log"
    words = ["strace", "-f", "-qq", "-o", str(log), sys.executable, "-I", "-S", "-B", "-c", program]
    subprocess.run(words, cwd=tmp_path, stderr=subprocess.DEVNULL, check=False)
    found, _ = offences(log)
    assert any(expected in call for call in found), found
