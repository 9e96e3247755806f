"""The floor of what is pushed: python 3.6, syntax and library.  Run as a program, it looks with vermin."""

import subprocess
import sys

import places

ROOT = places.ROOT
TARGET = "3.6-"
# newer, used only where it is there: os.preadv and os.pwritev behind hasattr, the keyword behind a TypeError
GUARDED = ("os.preadv", "os.pwritev", "hashlib.md5(usedforsecurity)")


def files():
    """Return the files that must keep the floor: all that is pushed, and all that stands in agent/."""
    sys.path.insert(0, str(ROOT))
    from blockdiff.source import push

    pushed = {ROOT / file for _, file in push.PUSHED + push.SNAPSHOTS + push.RESTORE}
    return sorted(pushed | set((ROOT / "agent").rglob("*.py")) | set((ROOT / "blockdiff/wire").glob("*.py")))


def vermin():
    """Run vermin over them; returns the CompletedProcess, whose code is 0 if all keep the floor."""
    words = [sys.executable, "-c", "from vermin import main; main()"]
    words += ["-q", "--violations", "--backport", "typing", f"-t={TARGET}"]
    for name in GUARDED:
        words += ["--exclude", name]
    return subprocess.run(words + [str(path) for path in files()], capture_output=True, text=True)


if __name__ == "__main__":
    done = vermin()
    print(done.stdout + done.stderr, end="")
    sys.exit(done.returncode)
