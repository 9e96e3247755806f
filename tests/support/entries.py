"""What a guest sends of one name."""

from blockdiff.guest.answers import Entry


def entry(name, kind="file", **changed):
    given = {
        "mode": 0o644, "uid": 1234, "gid": 1234, "mtime": 10**18, "size": 0, "target": "", "shared": False, "device": (0, 0),
    }  # fmt: skip
    return Entry(name, kind, **{**given, **changed})
