from collections.abc import Mapping

from blockdiff.formats import Buffer

VARIANTS: Mapping[str, int]  # name -> lanes

def md5_many(buffer: Buffer, stride: int, length: int, count: int, variant: str | None = None) -> bytes: ...
