"""Which of a version's files count, and whether one version continues another.

A manifest counts only while the digest file beside it is the one it was written with.
One whose digest file differs belongs to a run that something overwrote (the original
tool, say): it and the files that only it vouches for are ignored, and said so.
Format: blockdiff-formats(5), "Trust".
"""

import itertools
import os

from blockdiff import chain, manifest
from blockdiff.errors import ChainBroken, NoSuchVersion, NotOurFormat, StoreFailed, TornFile
from blockdiff.formats import FormatError, TornError, digestfile
from blockdiff.store import Store, Version


def version(store: Store, number: int, listing: chain.Listing, deep: bool = True) -> Version:
    """Return version `number` as its files tell it.

    `deep` reads the digest file to hash it; without, sizes decide, and the hash only where
    they disagree.  Raises NoSuchVersion, TornFile, NotOurFormat or StoreFailed.
    """
    suffixes = listing.versions.get(number)
    if suffixes is None:
        raise NoSuchVersion(store.name, number)
    try:
        block_size, count = _digest_file(store, number)
        sheet, stale, notes = _manifest(store, number, suffixes, deep)
        suffix = _diff_suffix(store, number, listing.diffs(number), sheet, stale, notes)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise TornFile(str(error.filename), "it is missing") from None
        raise StoreFailed(str(error.filename), error.strerror) from None
    if sheet is not None:
        fits = sheet.size is None or digestfile.blocks_of(sheet.size, block_size) == count
        if sheet.block_size != block_size or not fits:
            raise NotOurFormat(store.path(number, ".json"), "it does not fit its own digest file")
    full = sheet.full if sheet is not None else number == 1
    return Version(number, full, suffix, block_size, count, sheet, tuple(notes))


def _digest_file(store: Store, number: int) -> tuple[int, int]:
    path = store.path(number, ".md5")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(digestfile.HEADER_SIZE)
        return digestfile.decode_header(header), digestfile.count(size)
    except TornError as error:
        raise TornFile(path, error) from None
    except FormatError as error:
        raise NotOurFormat(path, error) from None


def _manifest(
    store: Store, number: int, suffixes: frozenset[str], deep: bool
) -> tuple[manifest.Manifest | None, manifest.Manifest | None, list[str]]:
    """Return (manifest that counts, manifest that does not, notes)."""
    if ".json" not in suffixes:
        return None, None, []
    path = store.path(number, ".json")
    try:
        sheet = store.read_manifest(number)
    except FormatError as error:
        raise TornFile(path, error, hint="put it aside and the version counts as one of the original tool") from None
    expected = sheet.files[".md5"]
    agrees = all(
        suffix in suffixes and os.path.getsize(store.path(number, suffix)) == entry.size
        for suffix, entry in sheet.files.items()
        if suffix == ".md5" or suffix in chain.DIFF_SUFFIXES
    )
    if (deep or not agrees) and store.hash(number, ".md5") != expected:
        return None, sheet, [f"{path} does not describe the digest file beside it and is ignored"]
    return sheet, None, []


def _diff_suffix(
    store: Store,
    number: int,
    found: list[str],
    sheet: manifest.Manifest | None,
    stale: manifest.Manifest | None,
    notes: list[str],
) -> str:
    if sheet is not None:
        named = [suffix for suffix in sheet.files if suffix in chain.DIFF_SUFFIXES]
        if len(named) != 1:
            raise NotOurFormat(store.path(number, ".json"), "it does not name one diff file")
        if named[0] not in found:
            raise TornFile(store.path(number, named[0]), "it is missing")
        notes += [f"{store.path(number, s)} is not of this version and is ignored" for s in found if s != named[0]]
        return named[0]
    if stale is not None and len(found) == 1 and store.hash(number, found[0]) == stale.files.get(found[0]):
        # a run that was overwritten has lost its diff file as well; here only the digest file is not its own
        why = "it is not the digest file that its diff file and its manifest were written with"
        hint = f"if another tool did write version {number}, put {store.path(number, '.json')} aside"
        raise TornFile(store.path(number, ".md5"), why, hint=hint)
    if stale is not None and len(found) > 1:
        foreign = [s for s in found if s not in stale.files or store.hash(number, s) != stale.files[s]]
        notes += [f"{store.path(number, s)} is not of this version and is ignored" for s in found if s not in foreign]
        found = foreign
    if not found:
        raise TornFile(store.path(number, ""), "the diff file is missing, under every suffix")
    if len(found) > 1:
        names = " and ".join(store.path(number, suffix) for suffix in found)
        raise NotOurFormat(names, "two diff files of one version, and nothing tells which counts")
    return found[0]


def counts(store: Store, owner: Version, suffix: str) -> bool:
    """Tell whether the file beside a version (.xxh128, .idx) is the one its manifest vouches for."""
    if owner.manifest is None or suffix not in owner.manifest.files:
        return False
    try:
        if suffix == ".idx":  # of a diff file that was overwritten, too, even by the same blocks
            diff = owner.manifest.files.get(owner.suffix)
            if diff is None or os.path.getsize(store.path(owner.number, owner.suffix)) != diff.size:
                return False
        return store.hash(owner.number, suffix) == owner.manifest.files[suffix]
    except OSError:
        return False


def check_link(store: Store, child: Version) -> None:
    """Prove that a version continues the one before it, as far as its manifest tells.

    Raises ChainBroken.
    """
    if child.full or child.manifest is None:
        return
    before = child.number - 1
    try:
        found = store.hash(before, ".md5").sha256
    except OSError as error:
        raise ChainBroken(child.number, store.name, f"digest file of version {before}: {error.strerror}") from None
    if found != child.manifest.parent_md5_sha256:
        raise ChainBroken(child.number, store.name, f"it does not continue version {before} as it lies here")


def chain_of(store: Store, number: int, listing: chain.Listing, deep: bool = True) -> list[Version]:
    """Return the versions that a restore of `number` reads, oldest first.

    `deep` hashes every digest file and proves every link.  Raises NoSuchVersion,
    ChainBroken, TornFile, NotOurFormat or StoreFailed.
    """
    if number not in listing.versions:
        raise NoSuchVersion(store.name, number)
    known: dict[int, Version] = {}

    def is_full(candidate: int) -> bool | None:
        if candidate not in listing.versions:
            return None
        known[candidate] = version(store, candidate, listing, deep)
        return known[candidate].full

    try:
        numbers = chain.needed(is_full, number)
    except chain.MissingLink as gap:
        why = f"version {gap.number} is missing" if gap.number else "there is no full version before it"
        raise ChainBroken(number, store.name, why) from None
    links = [known[n] for n in numbers]
    for before, after in itertools.pairwise(links):
        if before.block_size != after.block_size:
            change = f"from {before.block_size} to {after.block_size} bytes at version {after.number}"
            raise ChainBroken(number, store.name, f"block size changes {change}")
        if deep:
            check_link(store, after)
    return links


def is_whole(store: Store, number: int, listing: chain.Listing) -> bool:
    """Tell whether a version that NAME.ver does not name yet is whole, linked and ours."""
    try:
        found = version(store, number, listing)
        if found.manifest is None:
            return False
        check_link(store, found)
        return all(store.hash(number, suffix) == entry for suffix, entry in found.manifest.files.items())
    except (NoSuchVersion, TornFile, NotOurFormat, StoreFailed, ChainBroken, OSError):
        return False
