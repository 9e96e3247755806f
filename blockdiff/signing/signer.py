"""A key that signs."""

from collections.abc import Mapping

from blockdiff.errors import CannotSign
from blockdiff.formats import FormatError, signature
from blockdiff.signing.allowed import AllowedSigners
from blockdiff.signing.keygen import Keygen

PROBE = b"blockdiff: can this key sign?\n"
_HINT = "it must be a key without a passphrase, or one that an agent of this user has: SSH_AUTH_SOCK"


class Signer:
    """A key file, with which a probe was signed."""

    def __init__(self, path: str, environ: Mapping[str, str], trusted: AllowedSigners | None = None) -> None:
        """`path`: of a private key, or of a public one whose private key an agent has; `environ` as of Keygen.

        `trusted`: whose signatures count, beside those of this key, where a signed version is signed anew.
        Raises ProgramUnfit or CannotSign.
        """
        self._path, self._keygen = path, Keygen(environ)
        probe = self.sign(PROBE)
        try:
            own = signature.public_key(probe)
        except FormatError as error:
            raise CannotSign(path, f"what ssh-keygen wrote: {error}") from None
        others = b"" if trusted is None else trusted.data
        self.trusted = AllowedSigners(b"* " + own + b"\n" + others, environ)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of these bytes.  Raises CannotSign or ProgramUnfit."""
        # with an empty passphrase it does not ask for one
        words = ["-Y", "sign", "-P", "", "-n", signature.NAMESPACE, "-f", self._path]
        found, why = self._keygen.run(words, data)
        if found is None:
            raise CannotSign(self._path, why or "ssh-keygen failed", hint=_HINT)
        if not (found.startswith(signature.BEGIN) and len(found) <= signature.MAX_SIZE):
            raise CannotSign(self._path, "what ssh-keygen wrote is no signature")
        return found
