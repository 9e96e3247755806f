"""What blockdiff-verify prints of a sealed set to who has no key: what was proved, and what was not."""

from typing import Any

from blockdiff.commands import text
from blockdiff.place import choose


def report(result: Any) -> str:
    """Return what was found."""
    found, name = result.outside, text.name(result.name)
    good = [version.number for version in result.versions if not version.faults]
    bad = [version.number for version in result.versions if version.faults]
    lines = [f"{name}: {len(result.versions)} versions, {found.files} sealed files, {text.size(found.stored)}"]
    words = "their files are there, with sizes that sealed files can have"
    if choose.in_store(result.name) and not found.unmarked:
        words += ", and bytes as they were sent to the object store"
    lines.append(f"versions {text.numbers(good) or 'none'}: {words}")
    if bad:
        lines.append(f"versions with missing or damaged files: {text.numbers(bad)}")
    if found.bare:
        lines.append(f"versions without a manifest, as those of the original: {text.numbers(found.bare)}")
    if found.unmarked:
        lines.append(f"not proved: that {found.unmarked} files have the bytes that were sealed; {_why(result.name)}")
    lines.append("not proved: that any version restores; --identity FILE proves it")
    return "\n".join(lines)


def _why(name: str) -> str:
    if not choose.in_store(name):
        return "only the key shows that in a folder"
    return "the store has no MD5 of them, or parts of sizes that only their sender knows"


def json(found: Any) -> dict[str, Any]:
    """Return the same for a script."""
    return {
        "files": found.files,
        "stored": found.stored,
        "not_compared": found.unmarked,
        "without_manifest": found.bare,
        "not_proved": found.not_proved.message,
    }
