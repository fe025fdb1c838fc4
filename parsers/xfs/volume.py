"""The blocks of a volume, and how they are read: several at once, where several are needed (parsers.batch)."""

from __future__ import annotations

from collections.abc import Sequence

from vmount.parsers.batch import read_ascending, read_ranges
from vmount.parsers.errors import Corrupt
from vmount.parsers.reader import Reader, Span
from vmount.parsers.xfs.checksum import Seal, check_crc, check_identity
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.overlay import Overlay
from vmount.parsers.xfs.superblock import Superblock


class Volume:
    """A reader, the superblock that says how it is divided, and what the log has newer."""

    def __init__(
        self, reader: Reader, superblock: Superblock, overlay: Overlay | None = None
    ) -> None:
        self.reader = reader
        self.size = reader.size
        self._overlay = overlay
        self.superblock = superblock
        self.block_size = superblock.block_size
        self._group_bits = superblock.group_blocks_log
        self._group_mask = (1 << superblock.group_blocks_log) - 1

    def offset(self, block: int, count: int = 1) -> int:
        """Return the offset in bytes of a block number read from disk: group and block in it.

        Raises Corrupt unless it and its `count` - 1 successors are blocks that can belong to a file.
        """
        superblock = self.superblock
        group, index = block >> self._group_bits, block & self._group_mask
        if not (
            group < superblock.groups_count
            and 0 < index <= superblock.blocks_in_group(group) - count
        ):
            raise Corrupt(
                Damage.BLOCK_NUMBER_OUTSIDE_VOLUME,
                expected=f"{count} blocks in one of {superblock.groups_count} groups",
                actual=block,
            )
        return (group * superblock.group_blocks + index) * self.block_size

    def inode_offset(self, ino: int) -> int:
        """Return an inode's offset in the volume; it grows with the number.

        Raises Corrupt if there can be no inode of this number.
        """
        superblock = self.superblock
        bits = superblock.inode_bits
        group, inode = ino >> bits, ino & ((1 << bits) - 1)
        index_bits = superblock.inodes_per_block_log
        block, index = inode >> index_bits, inode & ((1 << index_bits) - 1)
        if group >= superblock.groups_count or not 0 < block < superblock.blocks_in_group(group):
            raise Corrupt(Damage.INODE_NUMBER_OUTSIDE_VOLUME, actual=ino)
        offset = (
            group * superblock.group_blocks + block
        ) * superblock.block_size + index * superblock.inode_size
        if offset + superblock.inode_size > self.reader.size:
            raise Corrupt(Damage.INODE_BEYOND_END_OF_VOLUME, offset, of=ino)
        return offset

    async def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes of metadata at `offset`."""
        data = bytes(await self.reader.read(offset, length))
        return data if self._overlay is None else self._overlay.apply(offset, data)

    def replayed(self, offset: int, length: int) -> bool:
        """Tell whether any of these bytes came out of the log, and so their structure has no checksum."""
        return self._overlay is not None and self._overlay.touches(offset, length)

    def check(
        self,
        data: bytes,
        seal: Seal,
        kind: str,
        where: int,
        owner: int,
        *,
        replayed: bool | None = None,
    ) -> None:
        """Raise Corrupt unless a structure of version 5, which has all of `data`, is whole and the one that
        was looked for: for `where` in the volume and for inode `owner`.

        `replayed` tells what `replayed` does, of a structure that is not in one piece.
        """
        if replayed is None:
            replayed = self.replayed(where, len(data))
        if not replayed:
            check_crc(data, seal.crc_at, kind, where)
        check_identity(data, seal, kind, where, self.superblock.metadata_uuid, owner)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass on what will be read soon."""
        self.reader.prefetch(spans)

    async def read_pieces(self, offsets: Sequence[int], length: int) -> list[bytes]:
        """Return the `length` bytes at each of `offsets`, which ascend."""
        return await read_ascending(self, offsets, length)

    async def read_ranges(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the bytes of each of `spans`, in parts."""
        return await read_ranges(self, spans)
