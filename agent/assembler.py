"""Stage 1: take the agent's modules from stdin, let python import them from memory, call its main.

Runs as plain text under `python3 -c`, with `stdin` already open; so it imports no module of
blockdiff and needs no file.  A module is compiled only when it is imported.
Format: blockdiff-protocol(5), "Bundle".
"""

import sys

if sys.version_info < (3, 6):
    sys.exit(96)

import hashlib
import importlib
from importlib.machinery import ModuleSpec


class Pushed:
    """The modules that were sent, as a finder and loader of Python's import system."""

    def __init__(self):
        self._sources = {}  # by name: text, whether it is a package

    def take(self, stream):
        """Read the modules up to the empty line; exits if one was damaged on the way."""
        while True:
            words = stream.readline().decode("ascii").split()
            if not words:
                return
            source = stream.read(int(words[1]))
            if hashlib.sha256(source).hexdigest() != words[2]:
                sys.exit(99)
            self._sources[words[0]] = source, words[3] == "p"

    def find_spec(self, name, path=None, target=None):
        if name not in self._sources:
            return None
        return ModuleSpec(name, self, origin="<pushed:%s>" % name, is_package=self._sources[name][1])

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__spec__.origin
        module.__file__ = name
        exec(compile(self._sources[module.__name__][0], name, "exec"), module.__dict__)

    def show(self):
        """Let a traceback show the lines of pushed code, which is in no file."""
        import linecache

        for name, (source, _) in self._sources.items():
            text = source.decode("utf-8")
            linecache.cache["<pushed:%s>" % name] = (len(text), None, text.splitlines(True), name)


try:
    pushed = Pushed()
    pushed.take(stdin)  # noqa: F821 (the stub's)
    sys.meta_path.insert(0, pushed)
    importlib.import_module("agent.main").main(pushed.show)
except Exception:
    import traceback

    pushed.show()
    traceback.print_exc()
    sys.exit(99)
sys.exit(0)
