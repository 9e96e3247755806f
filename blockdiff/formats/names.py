"""Names: which files of a folder are a set's.

Pure: lists of names in, values out.  A set is all files NAME.something in one folder.
Names are strict: a file that is not known to be ours is never touched.
Format: blockdiff-formats(5), "Names".
"""

import bisect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from blockdiff.formats.manifest import Manifest

DIFF_SUFFIXES = ("", ".gz", ".lzop", ".zst")
BESIDE_SUFFIXES = (".md5", ".json", ".xxh128", ".idx", ".sig")
SEALED = ".age"  # ending of a sealed file
PART = ".part"  # ending of our temporary files
_PART = r"(?:\.r[0-9a-f]{16})?\.part"  # earlier versions of the program had no name of the run in it
_MEMBER = re.compile(
    r"\.([1-9][0-9]{0,17})(|" + "|".join(re.escape(s) for s in DIFF_SUFFIXES[1:] + BESIDE_SUFFIXES) + rf")({_PART})?",
    re.ASCII,
)
_KEEP = re.compile(r"\.([1-9][0-9]{0,17})\.keep", re.ASCII)
_VER = re.compile(rb"([1-9][0-9]{0,17})\n")


def member_name(base: str, number: int, suffix: str) -> str:
    """Return the file name of a version's file; suffix is "" or begins with a dot."""
    return f"{base}.{number}{suffix}"


def ver_name(base: str) -> str:
    """Return the name of the file with the newest version's number."""
    return f"{base}.ver"


def lock_name(base: str) -> str:
    """Return the file name of a set's lock."""
    return f"{base}.lock"


def part_name(name: str, run: str) -> str:
    """Return the temporary name of a file; `run`: what `run_name` made for the run that writes it."""
    return f"{name}.{run}{PART}"


def drop_mark(base: str, number: int) -> str:
    """Return the name that the digest file of a version has while the version is being removed."""
    return member_name(base, number, ".md5") + PART


def keep_name(base: str, number: int) -> str:
    """Return the name of the file, made by a person, that keeps a version from being removed."""
    return f"{base}.{number}.keep"


def run_name(noise: bytes) -> str:
    """Return a run's part of temporary names, from 8 random bytes; it never looks like a version's number."""
    return "r" + noise.hex()


def encode_ver(number: int) -> bytes:
    """Return the content of NAME.ver for this version."""
    return b"%d\n" % number


def decode_ver(data: bytes) -> int | None:
    """Return the number in NAME.ver, None if the content is not exactly of its form."""
    match = _VER.fullmatch(data)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Listing:
    """The files of one set, by version and suffix."""

    base: str
    versions: Mapping[int, frozenset[str]] = field(default_factory=dict)  # number -> suffixes present
    parts: tuple[str, ...] = ()  # names of temporary files of ours
    dropping: frozenset[int] = frozenset()  # versions that are being removed; they are not in `versions`
    pinned: frozenset[int] = frozenset()  # numbers with a NAME.N.keep, whether or not there is a version
    sealed: bool = False  # there are sealed files of versions, which are not in `versions`
    has_ver: bool = False
    ver: bytes | None = None  # the content of NAME.ver, if it was read
    sheets: dict[int, Manifest | None] = field(default_factory=dict, compare=False)  # manifests that were read

    def diffs(self, number: int) -> list[str]:
        """Return the suffixes of the diff files that version `number` has, in a fixed order."""
        return [s for s in DIFF_SUFFIXES if s in self.versions.get(number, ())]

    def above(self, number: int) -> list[int]:
        """Return the numbers of all versions after this one, in order."""
        return sorted(n for n in self.versions if n > number)


def list_set(base: str, names: Iterable[str]) -> Listing:
    """Select the files of set `base` from the names in its folder."""
    versions: dict[int, set[str]] = {}
    parts = []
    marks, pinned = set(), set()
    sealed = has_ver = False
    for name in names:
        if not name.startswith(base):
            continue
        if name == ver_name(base):
            has_ver = True
            continue
        if _is_ver_part(base, name):
            parts.append(name)
            continue
        match = _MEMBER.fullmatch(name, len(base))
        if match is None:
            sealed = sealed or (name.endswith(SEALED) and member_of(base, name.removesuffix(SEALED)) is not None)
            if keep := _KEEP.fullmatch(name, len(base)):
                pinned.add(int(keep[1]))
            continue
        if match[3]:
            number = int(match[1])
            if name == drop_mark(base, number):
                marks.add(number)
            else:
                parts.append(name)
        else:
            versions.setdefault(int(match[1]), set()).add(match[2])
    newest = max((number for number, suffixes in versions.items() if ".md5" in suffixes), default=0)
    # a draft of earlier versions of the program has the same name, but is of the version after the newest
    dropping = frozenset(n for n in marks if n < newest and ".md5" not in versions.get(n, ()))
    parts += [drop_mark(base, number) for number in marks - dropping]
    frozen = {number: frozenset(suffixes) for number, suffixes in versions.items() if number not in dropping}
    return Listing(base, frozen, tuple(sorted(parts)), dropping, frozenset(pinned), sealed, has_ver)


def member_of(base: str, name: str) -> tuple[int, str] | None:
    """Return (number, suffix) of a file of a version of set `base`, also under a temporary name; None: it is none."""
    match = _MEMBER.fullmatch(name, len(base)) if name.startswith(base) else None
    return (int(match[1]), match[2]) if match else None


def _is_ver_part(base: str, name: str) -> bool:
    return name.startswith(ver_name(base)) and bool(re.fullmatch(_PART, name[len(ver_name(base)) :], re.ASCII))


def set_names(names: Iterable[str]) -> list[str]:
    """Return the sets in a folder with these names: each has a NAME.ver or a digest file."""
    found = set()
    for name in names:
        if name.endswith(".ver") and len(name) > 4:
            found.add(name[:-4])
        match = re.fullmatch(r"(.+)\.[1-9][0-9]{0,17}\.md5", name, re.DOTALL | re.ASCII)
        if match:
            found.add(match[1])
    return sorted(found)


def beginning(listed: Sequence[str], base: str) -> Sequence[str]:
    """Return those of a folder's sorted names that begin as all names of set `base` do."""
    return listed[bisect.bisect_left(listed, f"{base}.") : bisect.bisect_left(listed, f"{base}/")]  # "/" is after "."


def owner(name: str, bases: Iterable[str]) -> str | None:
    """Return which of these sets a file of this name belongs to, also as a temporary file; None: none of them."""
    for base in bases:
        if name in (ver_name(base), lock_name(base)) or _is_ver_part(base, name):
            return base
        if name.startswith(base) and _MEMBER.fullmatch(name, len(base)):
            return base
    return None
