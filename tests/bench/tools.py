"""The tools that are compared; each knows how to back up, how to restore, and what it stored."""

import atexit
import json
import os
import pathlib
import shutil
import sys
from typing import ClassVar

from blockdiff.blocks import md5many
from tests.support import sshd

from . import measure

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Tool:
    """One tool with a folder of its own."""

    name = ""
    program = ""
    restores = True
    zeroes = False  # it is measured once more after every other block was zeroed

    def __init__(self, folder, volume, sync):
        self.folder = pathlib.Path(folder) / self.name.replace(" ", "-")
        self.volume, self.sync = volume, sync
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.out = self.folder / "restored"
        self.begin()

    @classmethod
    def there(cls):
        """Whether it is installed."""
        return shutil.which(cls.program) is not None

    def begin(self):
        """Prepare an empty store."""

    def measured(self, *words, **options):
        if self.sync is None:
            measure.warm([self.volume, *(path for path in self.folder.rglob("*") if path.is_file())])
            measure.settle(self.folder, os.path.getsize(self.volume))
        return measure.run(words, sync=self.sync, folder=self.folder, **options)

    def stored(self):
        """Bytes on the disk."""
        files = (p for p in self.folder.rglob("*") if p.is_file() and p != self.out)
        return sum(p.stat().st_size for p in files)

    def verify(self):
        """None where the tool has nothing like it, or it is not compared."""


class Ours(Tool):
    name = "blockdiff"
    program = "python3"
    zeroes = True
    options = ()
    environment: ClassVar = {}

    def command(self, name):
        """Return the words that run a program of ours."""
        return [ROOT / "bin" / name]

    def back_up(self):
        agent = self.folder / "agent.json"
        prefix = f"{sys.executable} -I -S {ROOT / 'tests' / 'bench' / 'measure.py'} {agent}"
        figures = self.measured(
            *self.command("blockdiff-backup"), "-q", *self.options, self.folder / "set", self.source(),
            environment={"SSH_BLOCKDIFF_PREFIX": prefix, **self.environment},
        )  # fmt: skip
        side = json.loads(agent.read_text())
        agent.unlink()
        # locally the agent is a child of the server and was counted with it
        figures.update(agent_cpu=side["cpu"], agent_memory=side["memory"])
        return figures

    def source(self):
        return self.volume

    def restore(self):
        self.out.unlink(missing_ok=True)
        return self.measured(*self.command("blockdiff-merge"), "-q", self.folder / "set", self.out)

    def verify(self):
        return self.measured(*self.command("blockdiff-verify"), self.folder / "set")


class OursZstd(Ours):
    name = "blockdiff zstd"
    options = ("--zstd",)


class OursHashlib(Ours):
    """As where no C compiler was."""

    name = "blockdiff hashlib"
    script = (
        "import sys; sys.modules['blockdiff.blocks._md5lanes'] = None; sys.path[0] = sys.argv[1]; del sys.argv[:2]; "
        "from blockdiff.commands.programs import main; main()"
    )

    @classmethod
    def there(cls):
        return md5many.engine != "hashlib"

    def command(self, name):
        return [sys.executable, "-c", self.script, ROOT, name]


class OursSsh(Ours):
    """Through a real sshd on this machine's loopback."""

    name = "blockdiff ssh"
    restores = False  # it is the same as without

    @classmethod
    def there(cls):
        return sshd.MISSING is None

    def begin(self):
        self.lab = sshd.Lab()
        self.lab.__enter__()
        atexit.register(self.lab.__exit__, None, None, None)
        self.lab.server()
        self.environment = {"BLOCKDIFF_SSH_CONFIG": str(self.lab.config), "SSH_AUTH_SOCK": ""}

    def source(self):
        return f"source:{self.volume}"


class SshCat(OursSsh):
    """The bytes of the volume over the same sshd, and nothing done with them: the whole volume each time."""

    name = "ssh cat"
    zeroes = False

    def back_up(self):
        command = 'ssh -F "$0" source cat "$1" | cat >/dev/null'
        return self.measured("sh", "-c", command, self.lab.config, self.volume, environment=self.environment)


class Restic(Tool):
    name = program = "restic"

    def begin(self):
        self.environment = {
            "RESTIC_REPOSITORY": str(self.folder / "repo"),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
        }
        measure.run(["restic", "init"], environment=self.environment)

    def back_up(self):
        return self.measured("restic", "backup", "-q", self.volume, environment=self.environment)

    def restore(self):
        self.out.unlink(missing_ok=True)
        with open(self.out, "wb") as out:
            return self.measured("restic", "dump", "latest", self.volume, environment=self.environment, stdout=out)

    def stored(self):
        return sum(p.stat().st_size for p in (self.folder / "repo").rglob("*") if p.is_file())


class Borg(Tool):
    name = program = "borg"

    def begin(self):
        self.count = 0
        self.environment = {
            "BORG_BASE_DIR": str(self.folder / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        measure.run(["borg", "init", "-e", "none", self.folder / "repo"], environment=self.environment)

    def back_up(self):
        self.count += 1
        archive = f"{self.folder / 'repo'}::{self.count}"
        return self.measured(
            "borg", "create", "--chunker-params", "fixed,65536", "-C", "lz4", archive, self.volume,
            environment=self.environment,
        )  # fmt: skip

    def restore(self):
        self.out.unlink(missing_ok=True)
        with open(self.out, "wb") as out:
            return self.measured(
                "borg", "extract", "--stdout", f"{self.folder / 'repo'}::{self.count}",
                environment=self.environment, stdout=out,
            )  # fmt: skip

    def stored(self):
        return sum(p.stat().st_size for p in (self.folder / "repo").rglob("*") if p.is_file())


class Casync(Tool):
    name = program = "casync"

    def begin(self):
        self.count = 0

    def back_up(self):
        self.count += 1
        return self.measured(
            "casync", "make", "--store", self.folder / "store", self.folder / f"{self.count}.caibx", self.volume
        )

    def restore(self):
        self.out.unlink(missing_ok=True)
        return self.measured(
            "casync", "extract", "--store", self.folder / "store", self.folder / f"{self.count}.caibx", self.out
        )


class Original(Tool):
    name = "original"
    folder_of = os.environ.get("BLOCKDIFF_ORIGINAL", "")

    @classmethod
    def there(cls):
        return bool(cls.folder_of) and os.path.exists(os.path.join(cls.folder_of, "blockdiff_backup"))

    def back_up(self):
        path = f"{self.folder_of}:{os.environ['PATH']}"
        agent = self.measured(
            "blockdiff_backup", self.folder / "set", "blockdiff_dump", "-z", self.volume,
            environment={"PATH": path, "BLOCKSIZE": "65536"},
        )  # fmt: skip
        agent.update(agent_cpu=agent["cpu"], agent_memory=agent["memory"])
        return agent

    def restore(self):
        self.out.write_bytes(b"")
        newest = int((self.folder / "set.ver").read_text())
        loop = f"for i in $(seq {newest}); do gunzip -c set.$i.gz | blockdiff_merge restored; done"
        return self.measured("sh", "-c", loop, environment={"PATH": f"{self.folder_of}:{os.environ['PATH']}"})


TOOLS = (Ours, OursZstd, OursHashlib, OursSsh, SshCat, Restic, Borg, Casync, Original)
