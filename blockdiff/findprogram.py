"""Where a program is that another package of the system has."""

import os
import shutil
from collections.abc import Mapping

from blockdiff.errors import ProgramUnfit

_SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(program: str, package: str, environ: Mapping[str, str]) -> str:
    """Return a program's path.  Raises ProgramUnfit, with the Debian package that has it."""
    path = os.pathsep.join([environ.get("PATH", ""), *_SYSTEM])
    found = shutil.which(program, path=path)
    if found is None:
        raise ProgramUnfit(program, "it is not installed", hint=f"apt-get install {package}")
    return found
