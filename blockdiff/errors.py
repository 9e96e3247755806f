"""Everything that can go wrong, and the exit code a script sees for it.

There is one class for each error that needs a different reaction. The first
line of a class's docstring is its message; `hint` is the next step, if there is
one that is always right. Ranges: 10 the set, 20 the source host, 30 the volume or
target, 40 the database lock, 50 integrity, 60 using a version. Pushed with a restore,
so Python 3.6. Format: blockdiff(7), "Exit codes".
"""

from typing import Tuple


class _Report:
    """What is shown of an error: its message, its hint and its exit code."""

    args: Tuple[object, ...]
    exit_code = 1
    hint = ""
    about = ""  # which of several jobs failed, where there are several

    @property
    def message(self) -> str:
        """What went wrong, without the next step."""
        return (type(self).__doc__ or "").splitlines()[0].format(*self.args)

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class BlockdiffError(_Report, Exception):
    """blockdiff could not do what was asked: {}"""

    def __init__(self, *args: object, hint: str = "") -> None:
        super().__init__(*args)
        if hint:
            self.hint = hint

    def concern(self, what: str) -> None:
        """Record which job failed, unless that is known."""
        self.about = self.about or what


# 10-19: the set and its folder


class NoSuchSet(BlockdiffError):
    """no such set: {}"""

    exit_code = 10
    hint = "blockdiff-list FOLDER shows the sets in a folder"


class NoSuchVersion(BlockdiffError):
    """{} has no version {}"""

    exit_code = 11
    hint = "blockdiff-list NAME shows the versions of a set"


class SetLocked(BlockdiffError):
    """{} is locked by another run"""

    exit_code = 12
    hint = "wait until that run has ended; the lock ends with its process"


class SetChanged(SetLocked):
    """{} was changed by another run during this one"""

    hint = "nothing was changed by this run; run again"


class NoRoom(BlockdiffError):
    """no room to write {}"""

    exit_code = 13
    hint = "nothing was published; free space in that file system and run again"


class ForeignFiles(BlockdiffError):
    """{}"""

    exit_code = 14


class StoreFailed(BlockdiffError):
    """cannot write {}: {}"""

    exit_code = 15


class ProgramMissing(BlockdiffError):
    """the program {} is needed and was not found"""

    exit_code = 16


class StoreUnreadable(BlockdiffError):
    """cannot read {}: {}"""

    exit_code = 17


class StoreUnreachable(StoreUnreadable):
    """cannot reach {}: {}"""


class StoreRefused(BlockdiffError):
    """the object store refuses {}: {}"""

    exit_code = 18


# 20-29: the source host


class HostUnreachable(BlockdiffError):
    """cannot reach {}: {}"""

    exit_code = 20


class HostRefused(BlockdiffError):
    """{} refused or cannot be trusted: {}"""

    exit_code = 21


class NoPython(BlockdiffError):
    """no usable python on {}: tried {}"""

    exit_code = 22
    hint = "name one with --remote-python"


class AgentDied(BlockdiffError):
    """the agent on {} died: {}"""

    exit_code = 23


class VersionsDiffer(BlockdiffError):
    """the agent on {} speaks {}, this program speaks {}"""

    exit_code = 24


class HostSilent(BlockdiffError):
    """no data from {} for {} seconds"""

    exit_code = 25
    hint = "the connection is cut or the host hangs; --timeout sets how long to wait"


class ProtocolBroken(BlockdiffError):
    """{} broke the protocol: {}"""

    exit_code = 26


class CommandFailed(BlockdiffError):
    """{} failed: {}"""

    exit_code = 27


# 30-39: the volume that is read, the target that is written


class NoSuchVolume(BlockdiffError):
    """no such volume: {}: {}"""

    exit_code = 30


class SnapshotRefused(BlockdiffError):
    """cannot snapshot {}: {}"""

    exit_code = 31


class SnapshotOverflowed(BlockdiffError):
    """the snapshot of {} overflowed: {}"""

    exit_code = 32
    hint = "make the snapshot larger with --snapshot-size or SNAPSHOT_SIZE"


class ReadFailed(BlockdiffError):
    """cannot read {}: {}"""

    exit_code = 33


class BlockSizeDiffers(BlockdiffError):
    """{} has blocks of {} bytes, not {}"""

    exit_code = 34
    hint = "omit the option, or use --full"


class TargetRefused(BlockdiffError):
    """refusing to write to {}: {}"""

    exit_code = 35


class TargetFailed(BlockdiffError):
    """writing to {} failed: {}"""

    exit_code = 36


class SourceChanged(BlockdiffError):
    """the source of {} has changed: {}"""

    exit_code = 37
    hint = "to continue the set with this source, give --new-source once"


class NoPermission(BlockdiffError):
    """no permission to read {}: {}"""

    exit_code = 38
    hint = "--sudo runs the agent as root; what that needs is in blockdiff-backup(1)"


# 40-49: the application's lock around the snapshot


class LockUnreachable(BlockdiffError):
    """no connection to the database server: {}"""

    exit_code = 40


class LockNotGranted(BlockdiffError):
    """the lock was not granted: {}"""

    exit_code = 41


class LockLost(BlockdiffError):
    """the lock was lost before the snapshot was made: {}"""

    exit_code = 42


# 50-59: integrity


class NotOurFormat(BlockdiffError):
    """{} is not of a format this program knows: {}"""

    exit_code = 50


class NewerManifest(NotOurFormat):
    """{} is of a newer blockdiff: {}"""

    hint = "use that release, or a newer one, for this set; this one changes nothing in it"


class DamagedFile(BlockdiffError):
    """{} is damaged: {}"""

    exit_code = 51


class MissingFile(DamagedFile):
    """{} is missing"""


class ChainBroken(BlockdiffError):
    """version {} of {} cannot be restored: {}"""

    exit_code = 52


class CloneDiffers(ChainBroken):
    """{} is a clone of {}, not of {}"""


class DigestMismatch(BlockdiffError):
    """{}: {}"""

    exit_code = 53


class NotSigned(BlockdiffError):
    """{} is not signed as it must be: {}"""

    exit_code = 54


class CannotSign(NotSigned):
    """cannot sign with {}: {}"""


class SignatureLost(NotSigned):
    """version {} of {} is signed, and would no longer be"""

    hint = "give the key that signs it anew with --sign; nothing was changed"


class Sealed(BlockdiffError):
    """{} is sealed: {}"""

    exit_code = 55
    hint = "--identity FILE gives a private key of one of its recipients"


# 60-69: using a version without restoring it


class ProgramUnfit(BlockdiffError):
    """{} is needed and cannot be used: {}"""

    exit_code = 60


class NotAllowedHere(BlockdiffError):
    """{} is not allowed here: {}"""

    exit_code = 61


class DrillFailed(BlockdiffError):
    """the drill failed in step {}: {}"""

    exit_code = 62


class NothingThere(BlockdiffError):
    """there is no {} in version {} of {}"""

    exit_code = 63


# The end of a run from outside. Not a BlockdiffError: code that continues after a failed step must not do so here.


class Interrupted(_Report, BaseException):
    """interrupted by {}"""

    exit_code = 130

    def __init__(self, name: str, exit_code: int = 130) -> None:
        super().__init__(name)
        self.exit_code = exit_code  # 128 + the signal's number: 129, 130 or 143


class RunTooLong(Interrupted):
    """the run was ended after {} seconds, the limit of --max-time"""

    exit_code = 28

    def __init__(self, seconds: object) -> None:
        super().__init__(str(seconds), 28)
