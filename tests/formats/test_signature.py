"""A signature's public key, read out of it."""

import pytest

from blockdiff.formats import FormatError, signature

# of the key below, over "hello\n"
SIGNATURE = b"""-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgHJfExhxF2bCOl1NlH3j9PZ+FCK
UhI/U5LwTs7skglNoAAAAJYmxvY2tkaWZmAAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1l
ZDI1NTE5AAAAQPbyjYvX/dq/qJAIVphQyhaZ7kSBvozxgJKyKudav4yeSTbjZO/5QBHn9a
s1JyodsQI+ELs6awfpc3YSNps4agA=
-----END SSH SIGNATURE-----
"""
KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIByXxMYcRdmwjpdTZR94/T2fhQilISP1OS8E7O7JIJTa"


def test_the_public_key_is_in_the_signature():
    assert signature.public_key(SIGNATURE) == KEY


def test_what_is_no_signature_is_refused():
    for size in range(len(SIGNATURE)):
        with pytest.raises(FormatError):
            signature.public_key(SIGNATURE[:size])
    for wrong in (b"X" + SIGNATURE, SIGNATURE.replace(b"U1NI", b"U1NJ"), SIGNATURE.replace(b"AAADMAAAAL", b"/////////A")):
        with pytest.raises(FormatError):
            signature.public_key(wrong)
