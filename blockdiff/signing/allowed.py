"""Whose signatures count: a file of allowed signers, as the manual page of ssh-keygen describes it."""

from collections.abc import Mapping

from blockdiff.formats import signature
from blockdiff.signing.keygen import Keygen, in_memory

MAX_SIZE = 1024 * 1024  # bytes of the file


class AllowedSigners:
    """A file of allowed signers as it was when it was read."""

    def __init__(self, data: bytes, environ: Mapping[str, str]) -> None:
        """`data`: the file's bytes; `environ` as of Keygen.  Raises ProgramUnfit."""
        self.data = data
        self._keygen = Keygen(environ)

    def fault(self, principal: str, data: bytes, signed: bytes) -> str:
        """Return why `signed` is no good signature of `data` by this principal; "" if it is.  Raises ProgramUnfit."""
        with in_memory(self.data) as (allowed, allowed_path), in_memory(signed) as (own, own_path):
            words = ["-Y", "verify", "-n", signature.NAMESPACE, "-f", allowed_path, "-I", principal, "-s", own_path]
            found, why = self._keygen.run(words, data, keep=(allowed, own))
        return "" if found is not None else why or f"its signature is by no allowed signer of {principal!r}"
