"""Sealed files: readable only with a private key that this machine need not have.

The format is age's, version 1 (age-encryption.org/v1), with X25519 keys: every age program opens
what is sealed here, and is opened here. Format: blockdiff-formats(5), "Sealed files".

    header      the file key, wrapped once for each recipient, and a MAC over all of that
    nonce       16 bytes
    chunks      64 KiB of plaintext each, sealed one by one: any range can be opened alone

Both directions are here, over one library for ChaCha20-Poly1305 and X25519. A seal says nothing
about who made it: everybody has the recipient's public key.
"""
