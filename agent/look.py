"""What there is to tell of the volume that a request names, before anything is read."""

from blockdiff.formats import FormatError
from blockdiff.wire import messages

from . import users, volume


def path(request, name):
    """Return a path of a request's, as bytes.  Raises FormatError."""
    try:
        return request[name].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FormatError("path cannot be a file's: %s" % error) from None


def wanted(request):
    """Return what a request wants of a snapshot.  Raises FormatError."""
    return messages.check(request["snapshot"], size=(str, type(None)), set=str, run=str, must=bool, verbose=bool)


def same(request):
    """Tell whether the path that the set knows leads to the volume, too."""
    return request["known"] is not None and volume.same(path(request, "path"), path(request, "known"))


def facts(request, source):
    """Return what OPENED tells of a volume that is read as it lives."""
    writers = users.of(source.path) if request["users"] else None
    return {"size": source.size, "kind": source.kind, "same": same(request), "users": writers}


def answer(request, say):
    """Return the frame (kind, payload) that tells what would be read; makes nothing.  Raises AgentError."""
    if request["snapshot"] is not None:
        from .snapshots import prepare  # pushed only where a snapshot may be wanted

        plan = prepare.look(path(request, "path"), wanted(request), say)
        if plan is not None:
            return messages.READY, messages.encode_talk(dict(plan, same=same(request)))
    source = volume.Volume(path(request, "path"))
    try:
        return messages.OPENED, messages.encode_talk(facts(request, source))
    finally:
        source.close()
