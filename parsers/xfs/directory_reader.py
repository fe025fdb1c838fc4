"""Directories: all names, or one.

Strategy: a listing reads the blocks with entries in the order of the directory, in large reads announced
together, and not the index. A lookup goes down the index, which takes two or three blocks; where that is
damaged it looks through the whole directory.
"""

from __future__ import annotations

import contextlib

from vmount.parsers.batch import MAX_READ
from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.inode_entry import InodeEntry
from vmount.parsers.lru import Lru
from vmount.parsers.reader import Span, let_others_run
from vmount.parsers.xfs.checksum import DIRECTORY_DATA, DIRECTORY_INDEX, Seal
from vmount.parsers.xfs.directory import (
    FREE_START,
    INDEX_START,
    decode_block,
    decode_short,
    entry_at,
)
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.extent import Extents
from vmount.parsers.xfs.hash_index import (
    IndexBlock,
    decode_index_block,
    decode_index_in_block,
    name_hash,
)
from vmount.parsers.xfs.inode import Format, Inode
from vmount.parsers.xfs.mapping import read_extents
from vmount.parsers.xfs.volume import Volume

BLOCKS_A_TURN = 32
"""Blocks decoded before others get a turn: some thousand names."""
MAX_DIRECTORY = 1 << 30
"""Bytes of entries: some ten million names."""
MAX_ENTRIES = 1 << 22
"""Names in a directory: a listing of more would take gigabytes of memory."""
MAX_COLLISIONS = 64
"""Leaves with names of one hash, one after the other, that a lookup follows."""
CACHED_MAPS = 256
"""Directories whose place is remembered,"""
MAX_PIECES = 1 << 18
"""Of a directory: as many as MAX_DIRECTORY has blocks of 4 KiB."""
CACHED_PIECES = 1 << 10
"""unless they are in more pieces than this, which would take much memory."""


class DirectoryReader:
    """Reads the directories of a volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._superblock = volume.superblock
        self._maps: Lru[int, _DirectoryMap] = Lru(CACHED_MAPS)

    async def entries(self, inode: Inode) -> list[InodeEntry]:
        """Return all entries but "." and "..".

        Raises Corrupt, and Unsupported for a directory that is too large.
        """
        if inode.data_fork.format == Format.LOCAL:
            return self._short(inode)
        blocks = await self._map(inode)
        entries: list[InodeEntry] = []
        per_read = blocks.per_read
        for first in range(0, len(blocks.data), per_read):
            for index, (data, where) in enumerate(
                await self._checked(inode, blocks, blocks.data[first : first + per_read])
            ):
                entries += self._decode(data, where)
                if not index % BLOCKS_A_TURN:
                    await let_others_run(self._volume.reader, len(entries))
            if len(entries) > MAX_ENTRIES:
                raise Unsupported(f"a directory of more than {MAX_ENTRIES} names")
        return entries

    async def find(self, inode: Inode, name: bytes) -> int | None:
        """Return the inode number of a name, None if it is not there. Raises as `entries` does."""
        if name in (b".", b".."):
            return None
        if inode.data_fork.format == Format.LOCAL:
            return _search(self._short(inode), name)
        blocks = await self._map(inode)
        with contextlib.suppress(Corrupt):
            return await self._find_hashed(inode, blocks, name)
        per_read = blocks.per_read
        for first in range(0, len(blocks.data), per_read):
            for data, where in await self._checked(
                inode, blocks, blocks.data[first : first + per_read]
            ):
                ino = _search(self._decode(data, where), name)
                if ino is not None:
                    return ino
        return None

    async def _find_hashed(self, inode: Inode, blocks: _DirectoryMap, name: bytes) -> int | None:
        """Find a name by its hash. Raises Corrupt."""
        hashed = name_hash(name, ascii_ci=self._superblock.ascii_ci)
        size = self._superblock.directory_block_size
        if not blocks.indexed:
            [(data, where)] = await self._checked(inode, blocks, blocks.data)
            for address in decode_index_in_block(data, where).addresses(hashed):
                entry = self._entry(data, address, where)
                if entry.name == name:
                    return entry.ino
            return None
        leaf = await self._leaf(inode, blocks, hashed)
        for _ in range(MAX_COLLISIONS):
            if leaf is None:
                return None
            for address in leaf.addresses(hashed):
                number, position = divmod(address, size)
                [(data, where)] = await self._checked(inode, blocks, [number])
                entry = self._entry(data, position, where)
                if entry.name == name:
                    return entry.ino
            if not leaf.following or not leaf.hashes or leaf.hashes[-1] > hashed:
                return None
            leaf = await self._index_block(inode, blocks, leaf.following)
        raise Corrupt(Damage.INODE_TOO_MANY_NAMES_OF_ONE_HASH, of=inode.number)

    async def _leaf(self, inode: Inode, blocks: _DirectoryMap, hashed: int) -> IndexBlock | None:
        """Return the leaf of the index where a hash is; None if it is higher than all. Raises Corrupt."""
        block = await self._index_block(inode, blocks, INDEX_START // self._superblock.block_size)
        while block.level:
            child = block.child(hashed)
            if child is None:
                return None
            below = await self._index_block(inode, blocks, child)
            if below.level != block.level - 1:
                raise Corrupt(
                    Damage.INODE_LEVEL_IN_INDEX,
                    of=inode.number,
                    expected=block.level - 1,
                    actual=below.level,
                )
            block = below
        return block

    async def _index_block(self, inode: Inode, blocks: _DirectoryMap, address: int) -> IndexBlock:
        size = self._superblock.directory_block_size
        if not INDEX_START <= address * self._superblock.block_size < FREE_START:
            raise Corrupt(Damage.INODE_ADDRESS_IN_INDEX, of=inode.number, actual=address)
        number = address * self._superblock.block_size // size
        [(data, where)] = await self._checked(
            inode, blocks, [number], DIRECTORY_INDEX, "directory index"
        )
        return decode_index_block(data, where, version_5=self._superblock.checksums)

    async def _checked(
        self,
        inode: Inode,
        blocks: _DirectoryMap,
        numbers: list[int],
        seal: Seal = DIRECTORY_DATA,
        kind: str = "directory block",
    ) -> list[tuple[bytes, int]]:
        """Return the bytes of blocks of one kind, and where they are."""
        found = await blocks.read(numbers)
        if self._superblock.checksums:
            for data, where, replayed in found:
                self._volume.check(data, seal, kind, where, inode.number, replayed=replayed)
        return [(data, where) for data, where, _ in found]

    def _entry(self, data: bytes, position: int, where: int) -> InodeEntry:
        return entry_at(data, position, where, file_types=self._superblock.file_types)

    def _short(self, inode: Inode) -> list[InodeEntry]:
        fork, size = inode.data_fork, inode.attrs.size
        if size > len(fork.data):
            raise Corrupt(
                Damage.DIRECTORY_SIZE,
                inode.where,
                of=inode.number,
                expected=f"at most {len(fork.data)}",
                actual=size,
            )
        return decode_short(fork.data[:size], fork.where, file_types=self._superblock.file_types)

    def _decode(self, data: bytes, where: int) -> list[InodeEntry]:
        superblock = self._superblock
        return decode_block(
            data, where, version_5=superblock.checksums, file_types=superblock.file_types
        )

    async def _map(self, inode: Inode) -> _DirectoryMap:
        known = self._maps.get(inode.number)
        if known is None:
            if inode.data_fork.extents > MAX_PIECES:
                raise Unsupported(f"a directory of more than {MAX_PIECES} pieces")
            extents = await read_extents(self._volume, inode, inode.data_fork)
            known = _DirectoryMap(self._volume, inode, extents)
            if len(extents) <= CACHED_PIECES:
                self._maps.put(inode.number, known)
        return known


class _DirectoryMap:
    """The blocks of one directory. Its blocks may be made of several of the volume's."""

    def __init__(self, volume: Volume, inode: Inode, extents: Extents) -> None:
        self._volume = volume
        self._ino = inode.number
        self._extents = extents
        self._block_size = volume.superblock.directory_block_size
        per_block = self._block_size // volume.block_size
        used: list[tuple[int, int]] = []
        data: list[int] = []
        for extent in extents:
            if extent.unwritten:
                raise Corrupt(
                    Damage.DIRECTORY_HAS_BLOCK_NEVER_WRITTEN, inode.where, of=inode.number
                )
            used.append((extent.start, extent.blocks))
            if extent.block * volume.block_size >= INDEX_START:
                continue
            first = extent.block // per_block
            end = -(-(extent.block + extent.blocks) // per_block)
            if data and data[-1] == first:
                first += 1
            data += range(first, end)
            if len(data) * self._block_size > MAX_DIRECTORY:
                raise Unsupported(f"a directory of more than {MAX_DIRECTORY} bytes")
        used.sort()
        end = 0
        for start, count in used:
            if start < end:
                raise Corrupt(Damage.DIRECTORY_HAS_BLOCK_TWICE, inode.where, of=inode.number)
            end = start + count
        if not data:
            raise Corrupt(Damage.DIRECTORY_HAS_NO_BLOCK, inode.where, of=inode.number)
        self.indexed = any(extent.block * volume.block_size >= INDEX_START for extent in extents)
        """It has an index in blocks of its own."""
        self.data = data
        """Numbers of the blocks with entries, in directory blocks."""
        self.per_read = max(1, 16 * MAX_READ // self._block_size)
        """Blocks to be read together, which bounds the memory for them."""

    async def read(self, numbers: list[int]) -> list[tuple[bytes, int, bool]]:
        """Return the bytes of some blocks, where in the volume each starts, and whether any of it came out of
        the log. Raises Corrupt."""
        size = self._block_size
        spans: list[Span] = []
        starts = []
        for number in numbers:
            pieces = self._spans(number * size, size)
            replayed = any(self._volume.replayed(*piece) for piece in pieces)
            starts.append((pieces[0].offset, replayed))
            for span in pieces:
                if spans and spans[-1].offset + spans[-1].length == span.offset:
                    spans[-1] = Span(spans[-1].offset, spans[-1].length + span.length)
                else:
                    spans.append(span)
        data = b"".join(await self._volume.read_ranges(spans))
        return [
            (data[index * size : (index + 1) * size], start, replayed)
            for index, (start, replayed) in enumerate(starts)
        ]

    def _spans(self, offset: int, length: int) -> list[Span]:
        """Return where a range of the directory is in the volume."""
        block_size = self._volume.block_size
        spans = []
        block, end = offset // block_size, (offset + length) // block_size
        index = self._extents.which(block)
        while block < end:
            extent = self._extents[index] if 0 <= index < len(self._extents) else None
            if extent is None or not extent.block <= block < extent.block + extent.blocks:
                raise Corrupt(Damage.DIRECTORY_BLOCK_OF_IT_IS_HOLE, of=self._ino, actual=offset)
            part = min(end, extent.block + extent.blocks) - block
            start = self._volume.offset(extent.start + block - extent.block, part)
            spans.append(Span(start, part * block_size))
            block += part
            index += 1
        return spans


def _search(entries: list[InodeEntry], name: bytes) -> int | None:
    for entry in entries:
        if entry.name == name:
            return entry.ino
    return None
