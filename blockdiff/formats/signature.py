"""The signature of a manifest, NAME.N.sig: what `ssh-keygen -Y sign -n blockdiff` writes.

Format: blockdiff-formats(5), "Signature"; OpenSSH's PROTOCOL.sshsig.
"""

import base64
import struct

from blockdiff.formats import FormatError

NAMESPACE = "blockdiff"
MAX_SIZE = 64 * 1024  # bytes; a signature is a few hundred, one with a large certificate some thousand
BEGIN = b"-----BEGIN SSH SIGNATURE-----\n"
_END = b"\n-----END SSH SIGNATURE-----\n"
_BEFORE_KEY = b"SSHSIG\0\0\0\1"


def public_key(data: bytes) -> bytes:
    """Return the public key that a signature names, as a line of allowed_signers has it.  Raises FormatError."""
    try:
        if not (data.startswith(BEGIN) and data.endswith(_END)):
            raise ValueError
        blob = base64.b64decode(data[len(BEGIN) : -len(_END)].replace(b"\n", b""), validate=True)
        if not blob.startswith(_BEFORE_KEY):
            raise ValueError
        key = _string(blob[len(_BEFORE_KEY) :])
        return _string(key) + b" " + base64.b64encode(key)
    except (ValueError, struct.error):
        raise FormatError("it is no signature of OpenSSH") from None


def _string(data: bytes) -> bytes:
    (length,) = struct.unpack_from(">I", data)
    found = data[4 : 4 + length]
    if len(found) < length:
        raise ValueError
    return found
