"""Stage 1: read the agent's modules from stdin into sys.modules, then call its main.

Runs as plain text under `python3 -c`, with `stdin` already open; so it imports nothing of
ours and must not need a file.  Format: blockdiff-protocol(5), "Bundle".
"""

import hashlib
import linecache
import sys
import traceback
import types


def load(stream):
    """Make each module of the bundle real, in the order in which they come."""
    while True:
        words = stream.readline().decode("ascii").split()
        if not words:
            return
        name, length, sha256, is_package = words[0], int(words[1]), words[2], words[3] == "p"
        source = stream.read(length)
        if hashlib.sha256(source).hexdigest() != sha256:
            sys.exit(99)
        filename = "<pushed:%s>" % name
        module = types.ModuleType(name)
        module.__file__ = filename
        if is_package:
            module.__path__ = []
            module.__package__ = name
        else:
            module.__package__ = name.rpartition(".")[0]
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
        # a traceback from pushed code shows its lines only if they are put here
        text = source.decode("utf-8")
        linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
        exec(compile(source, filename, "exec"), module.__dict__)


if sys.version_info < (3, 6):
    sys.exit(96)
try:
    load(stdin)  # noqa: F821 (the stub's)
    sys.modules["agent.main"].main()
except Exception:
    traceback.print_exc()
    sys.exit(99)
sys.exit(0)
