"""The inode table: from numbers to inodes.

Strategy: a listing asks for all its inodes at once. Their places follow from their numbers, so they are
sorted, neighbours are read together, and all reads are announced before the first. A bounded cache keeps what was
decoded, because what is listed is opened next.
"""

from __future__ import annotations

from collections.abc import Collection

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.group import GroupDescriptor, decode_group_descriptor, descriptor_blocks
from vmount.parsers.ext.inode import ROOT_INODE, Inode, InodeDecoder
from vmount.parsers.ext.volume import Volume
from vmount.parsers.lru import Lru
from vmount.parsers.reader import Span, let_others_run

INODES_A_TURN = (1 << 10) - 1
"""A mask: others get a turn after so many inodes decoded."""
CACHED_INODES = 1 << 15
"""About 40 MiB at most."""
CACHED_GROUPS = 1 << 16
"""The groups of 8 TiB, in blocks of 4 KiB."""


class InodeTable:
    """The inodes of a volume."""

    def __init__(self, volume: Volume, *, reserved: int = ROOT_INODE) -> None:
        """Give access to all inodes that can have names, and to one of the reserved."""
        self._reserved = reserved
        self._volume = volume
        self._superblock = volume.superblock
        self._decoder = InodeDecoder(volume.superblock)
        self._inodes: Lru[int, Inode | Corrupt] = Lru(CACHED_INODES)
        self._groups: Lru[int, GroupDescriptor | Corrupt] = Lru(CACHED_GROUPS)

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
        places = await self._places(missing, found)
        pieces = await self._volume.read_pieces(
            [offset for offset, _ in places], self._superblock.inode_size
        )
        decode = self._decoder.decode
        newer = self._volume.fast_commits
        for index, ((offset, ino), raw) in enumerate(zip(places, pieces, strict=True), 1):
            if not index & INODES_A_TURN:
                await let_others_run(self._volume.reader)
            merged = (
                newer.merge_inode(ino, raw, self._volume.block_size)
                if ino in newer.inodes
                else None
            )
            try:
                if merged is None:
                    found[ino] = decode(ino, raw, offset)
                else:
                    found[ino] = decode(ino, merged, offset, verify=False)
            except Corrupt as error:
                found[ino] = error.with_traceback(None)
        for ino in missing:
            self._inodes.put(ino, found[ino])
        return found

    async def _places(
        self, missing: list[int], found: dict[int, Inode | Corrupt]
    ) -> list[tuple[int, int]]:
        """Return (offset in the volume, number) in the order of the volume; add to `found` what has no place."""
        superblock = self._superblock
        per_group, inode_size = superblock.inodes_per_group, superblock.inode_size
        first, last = superblock.first_inode, superblock.inodes_count
        valid = []
        for ino in missing:
            if first <= ino <= last or ino == self._reserved:
                valid.append(ino)
            else:
                found[ino] = Corrupt(
                    Damage.INODE_NUMBER,
                    expected=f"{self._reserved} or {first} to {last}",
                    actual=ino,
                )
        groups = await self._descriptors({(ino - 1) // per_group for ino in valid})
        places = []
        for ino in valid:
            group, index = divmod(ino - 1, per_group)
            descriptor = groups[group]
            if isinstance(descriptor, Corrupt):
                found[ino] = descriptor
                continue
            offset = descriptor.inode_table * superblock.block_size + index * inode_size
            if offset + inode_size > self._volume.reader.size:
                found[ino] = Corrupt(Damage.INODE_BEYOND_END_OF_VOLUME, offset)
                continue
            places.append((offset, ino))
        places.sort()
        return places

    async def _descriptors(self, groups: set[int]) -> dict[int, GroupDescriptor | Corrupt]:
        kept = self._groups.get
        found = {group: known for group in groups if (known := kept(group)) is not None}
        missing = groups - found.keys()
        if not missing:
            return found
        block_size = self._superblock.block_size
        per_block = block_size // self._superblock.descriptor_size
        by_index: dict[int, list[int]] = {}
        for group in sorted(missing):
            by_index.setdefault(group // per_block, []).append(group)
        copies = [descriptor_blocks(self._superblock, index) for index in by_index]
        if len(copies) > 1:
            spans = [Span(blocks[0] * block_size, block_size) for blocks in copies]
            self._volume.reader.prefetch(spans)
        for blocks, members in zip(copies, by_index.values(), strict=True):
            found.update(await self._decode_descriptors(blocks, members))
        for group in missing:
            self._groups.put(group, found[group])
        return found

    async def _decode_descriptors(
        self, copies: list[int], groups: list[int]
    ) -> dict[int, GroupDescriptor | Corrupt]:
        """Decode the descriptors of some groups from a block that has all of them.

        What is damaged in the first of `copies` is taken from the next; if none is good, what is wrong
        in the first stands in its place.
        """
        size = self._superblock.descriptor_size
        per_block = self._superblock.block_size // size
        found: dict[int, GroupDescriptor] = {}
        damage: dict[int, GroupDescriptor | Corrupt] = {}
        for block in copies:
            left = [group for group in groups if group not in found]
            if not left:
                break
            try:
                where = self._volume.offset(block)
                data = await self._volume.read_block(block)
            except Corrupt as error:
                for group in left:
                    damage.setdefault(group, error.with_traceback(None))
                continue
            for group in left:
                at = group % per_block * size
                try:
                    found[group] = decode_group_descriptor(
                        self._superblock, data[at : at + size], group, where + at
                    )
                except Corrupt as error:
                    damage.setdefault(group, error.with_traceback(None))
        return damage | found
