"""The blocks of a volume, and how they are read: several at once, where several are needed (parsers.batch)."""

from __future__ import annotations

from collections.abc import Sequence

from vmount.parsers.batch import read_ascending, read_pieces, read_ranges
from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.escaped import EscapedBlocks
from vmount.parsers.ext.fast_commit import FastCommits
from vmount.parsers.ext.journal import JournalOverlay
from vmount.parsers.ext.superblock import Superblock
from vmount.parsers.model import Packed, Runs
from vmount.parsers.reader import Reader, Span
from vmount.parsers.runs import RunList


class Volume:
    """A reader, the superblock that says how it is divided, and what the journal has newer."""

    def __init__(
        self, reader: Reader, superblock: Superblock, overlay: JournalOverlay | None = None
    ) -> None:
        self.reader = reader
        self.size = reader.size
        self._overlay = overlay
        self.fast_commits = FastCommits() if overlay is None else overlay.fast_commits
        self.superblock = superblock
        self.block_size = superblock.block_size

    def offset(self, block: int, count: int = 1) -> int:
        """Return the offset in bytes of a block number read from disk.

        Raises Corrupt unless it and its `count` - 1 successors are blocks that can belong to a file.
        """
        superblock = self.superblock
        if not superblock.first_data_block < block <= superblock.blocks_count - count:
            raise Corrupt(
                Damage.BLOCK_NUMBER_OUTSIDE_VOLUME,
                expected=f"{count} blocks below {superblock.blocks_count:#x}",
                actual=block,
            )
        return block * self.block_size

    async def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`."""
        data = bytes(await self.reader.read(offset, length))
        if self._overlay is not None:
            return await self._overlay.apply(self.reader, offset, data)
        return data

    async def layout(self, runs: RunList) -> Runs | Packed:
        """Return a file's place, given its runs, as it is to be read by `reader`.

        Blocks of a file are in the journal where the guest journals data too.
        """
        if self._overlay is None:
            return Runs(runs)
        runs, escaped = await self._overlay.relocate(self.reader, runs)
        return Packed(EscapedBlocks(runs, escaped)) if escaped else Runs(runs)

    async def read_block(self, block: int) -> bytes:
        """Return a block."""
        return await self.read(self.offset(block), self.block_size)

    async def read_blocks(self, blocks: Sequence[int]) -> list[bytes]:
        """Return blocks in the order asked for."""
        offsets = [self.offset(block) for block in blocks]
        pieces = await read_pieces(self, offsets, self.block_size)
        return [pieces[offset] for offset in offsets]

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass on what will be read soon."""
        self.reader.prefetch(spans)

    async def read_pieces(self, offsets: Sequence[int], length: int) -> list[bytes]:
        """Return the `length` bytes at each of `offsets`, which ascend."""
        return await read_ascending(self, offsets, length)

    async def read_ranges(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the bytes of each of `spans`, in parts."""
        return await read_ranges(self, spans)
