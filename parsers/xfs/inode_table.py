"""From numbers to inodes.

Strategy: a listing asks for all its inodes at once. A number is a place: group, block, index in the block.
They are sorted, neighbours (inodes come in chunks of 64) are read together, and all reads are announced before
the first. A bounded cache keeps what was decoded, because what is listed is opened next.
"""

from __future__ import annotations

from collections.abc import Collection

from vmount.parsers.errors import Corrupt
from vmount.parsers.lru import Lru
from vmount.parsers.reader import let_others_run
from vmount.parsers.xfs.inode import Inode, InodeDecoder
from vmount.parsers.xfs.volume import Volume

INODES_A_TURN = (1 << 10) - 1
"""A mask: others get a turn after so many inodes decoded."""
CACHED_INODES = 1 << 15
"""About 50 MiB at most."""


class InodeTable:
    """The inodes of a volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._superblock = volume.superblock
        self._decoder = InodeDecoder(volume.superblock)
        self._inodes: Lru[int, Inode | Corrupt] = Lru(CACHED_INODES)

    async def get(self, ino: int) -> Inode:
        """Return an inode. Raises Corrupt if it is damaged, not in use or cannot exist."""
        found = self._inodes.get(ino)
        if found is None:
            found = (await self.get_many((ino,)))[ino]
        if isinstance(found, Corrupt):
            # Kept and raised again: without the traceback of the time before.
            raise found.with_traceback(None)
        return found

    async def get_many(self, inos: Collection[int]) -> dict[int, Inode | Corrupt]:
        """Return inodes by number; in place of a damaged one what is wrong with it."""
        kept = self._inodes.get
        found = {ino: inode for ino in inos if (inode := kept(ino)) is not None}
        missing = sorted({ino for ino in inos if ino not in found})
        if not missing:
            return found
        places: list[tuple[int, int]] = []
        for ino in missing:
            try:
                places.append((self._volume.inode_offset(ino), ino))
            except Corrupt as error:
                found[ino] = error.with_traceback(None)
        pieces = await self._volume.read_pieces(
            [offset for offset, _ in places], self._superblock.inode_size
        )
        decode, replayed = self._decoder.decode, self._volume.replayed
        for index, ((offset, ino), raw) in enumerate(zip(places, pieces, strict=True), 1):
            if not index & INODES_A_TURN:
                await let_others_run(self._volume.reader)
            try:
                found[ino] = decode(ino, raw, offset, checksum=not replayed(offset, len(raw)))
            except Corrupt as error:
                found[ino] = error.with_traceback(None)
        for ino in missing:
            self._inodes.put(ino, found[ino])
        return found
