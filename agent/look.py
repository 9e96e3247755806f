"""Describe the volume of a request, without reading it."""

from blockdiff.wire import messages
from blockdiff.wire.request import encode_path

from . import users, volume


def same(asked):
    """Return whether the path that the set knows leads to the volume."""
    return asked.known is not None and volume.same(encode_path(asked.path), encode_path(asked.known))


def facts(asked, source):
    """Return the values of OPENED for a volume that is read without a snapshot."""
    writers = users.of(source.path) if asked.users else None
    return {"size": source.size, "kind": source.kind, "same": same(asked), "users": writers}


def answer(asked, log):
    """Return the frame (kind, payload) that describes what would be read; makes nothing.  Raises AgentError."""
    if asked.snapshot is not None:
        from .snapshots import prepare  # pushed only where a snapshot may be wanted

        plan = prepare.look(encode_path(asked.path), asked.snapshot, log)
        if plan is not None:
            return messages.READY, messages.encode_talk(dict(plan, same=same(asked)))
    source = volume.Volume(encode_path(asked.path))
    try:
        return messages.OPENED, messages.encode_talk(facts(asked, source))
    finally:
        source.close()
