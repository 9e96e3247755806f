"""Compile the MD5 extension, as a hook of the build; without a C compiler the package is built without it.

Run as a program it compiles into the file that it is given, from its source or another; CFLAGS are added.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path(__file__).parents[1] / "blockdiff/blocks/md5lanes.c"
BUILT = "blockdiff/blocks/_md5lanes.abi3.so"


def compiled(out, source=SOURCE):
    """Compile into this file; return why that cannot be, None if it is done."""
    variable = os.environ.get
    words = shlex.split(variable("CC") or sysconfig.get_config_var("CC") or "cc")
    words += ["-O3", "-Wall", "-Wextra", "-fPIC", "-shared", "-I" + sysconfig.get_path("include")]
    words += shlex.split(variable("CPPFLAGS", "") + " " + variable("CFLAGS", ""))
    words += [str(source), "-o", str(out), *shlex.split(variable("LDFLAGS", ""))]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    return None if done.returncode == 0 else done.stderr.strip() or f"{words[0]} ended with {done.returncode}"


class Extension(BuildHookInterface):
    """Puts the extension into a wheel, or beside its source for an editable install."""

    def initialize(self, version, build_data):
        """Compile; a wheel with the extension is for one platform, and for every Python since 3.11."""
        editable = version == "editable"
        self._folder = tempfile.TemporaryDirectory()
        out = Path(self.root, BUILT) if editable else Path(self._folder.name, "extension.so")
        out.unlink(missing_ok=True)
        why = compiled(out)
        if why is not None:
            self.app.display_warning(f"the MD5 extension is left out, hashlib does its work: {why}")
        elif not editable:
            build_data["force_include"][str(out)] = BUILT
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().translate(str.maketrans('-.', '__'))}"

    def finalize(self, version, build_data, artifact_path):
        """Remove what is in the wheel by now."""
        self._folder.cleanup()


if __name__ == "__main__":
    sys.exit(compiled(*sys.argv[1:]))
