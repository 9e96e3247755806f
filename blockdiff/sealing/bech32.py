"""Bech32, how age writes keys: a prefix, "1", five bits a letter, a checksum. BIP 173, but of any length."""

_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6  # letters


def decode(text: str) -> tuple[str, bytes]:
    """Return the prefix as it is written, and the bytes.  Raises ValueError, without quoting the text."""
    if any(not "!" <= letter <= "~" for letter in text) or text not in (text.lower(), text.upper()):
        raise ValueError("it has letters that no key has")
    prefix, mark, rest = text.rpartition("1")
    if not mark or not prefix or len(rest) < _CHECKSUM:
        raise ValueError("it is too short")
    try:
        words = [_LETTERS.index(letter) for letter in rest.lower()]
    except ValueError:
        raise ValueError("it has letters that no key has") from None
    letters = prefix.lower().encode("ascii")
    if _polymod([letter >> 5 for letter in letters] + [0] + [letter & 31 for letter in letters] + words) != 1:
        raise ValueError("its checksum is wrong")
    return prefix, _bytes_of(words[:-_CHECKSUM])


def _polymod(words: list[int]) -> int:
    check = 1
    for word in words:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ word
        for bit, value in enumerate(_GENERATOR):
            if top >> bit & 1:
                check ^= value
    return check


def _bytes_of(words: list[int]) -> bytes:
    value = 0
    for word in words:
        value = value << 5 | word
    size, spare = divmod(5 * len(words), 8)
    if spare >= 5 or value & ((1 << spare) - 1):
        raise ValueError("its last letter is wrong")
    return (value >> spare).to_bytes(size, "big")
