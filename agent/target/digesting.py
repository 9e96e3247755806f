"""A pass over a target that reads it and only digests."""

from .. import buffers, scan


class Digesting(scan.Scan):
    """One pass over a volume; the Results have the digests of their blocks and nothing else."""

    def __init__(self, volume, asked):
        """Digest a volume as the Request asks."""
        pool = buffers.choose(None, scan.buffer_size(volume, asked.block_size))
        super().__init__(volume, asked, None, lambda: False, pool)

    def _hole(self, extent, old):
        return scan.Result([], self._zero_digests_of(self._digester, extent))

    def _data(self, extent, fetched, old, buffer):
        self._volume.read_into(buffer.view[: extent.length], extent.offset)
        self._volume.cache.drop(fetched)
        result = scan.Result([], self._digester.digests(buffer, extent.length, self._block_size))
        result.buffer, result.length = buffer, extent.length
        return result
