"""Replaying a log in memory.

Strategy: all transactions are known before the first is applied, because a buffer that was given up later must
not get its old contents: the blocks may hold a file's data by now. The old contents of everything that is
changed are fetched together; changes are applied in the order of the log, unless the structure bears the
number of a later record. Nothing is written.
Source: "XFS Algorithms & Data Structures", "Journaling Log".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vmount.parsers.errors import Corrupt
from vmount.parsers.xfs.checksum import BASIC_BLOCK
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.inode import INODE
from vmount.parsers.xfs.log import Item, Log, Transaction
from vmount.parsers.xfs.log_inode import apply_inode
from vmount.parsers.xfs.log_item import (
    IGNORED_BUFFERS,
    INTENTS,
    BufferFlag,
    BufferItem,
    InodeChunk,
    InodeItem,
    ItemType,
    decode_buffer,
    decode_icreate,
    decode_inode,
    intent_id,
    item_type,
)
from vmount.parsers.xfs.overlay import Overlay
from vmount.parsers.xfs.volume import Volume

_UNKNOWN_LSN = (1 << 64) - 1
_LSN_BY_MAGIC = {b"BMA3": (32, 40), b"XSLM": (48, 16), b"XFSB": (240, 32)} | dict.fromkeys(
    (b"XDB3", b"XDD3", b"XDF3"), (16, 24)
)
"""Where a structure has the number of the record that it was written for, and the volume's UUID."""
_LSN_BY_SHORT_MAGIC = dict.fromkeys((0x3DF1, 0x3DFF, 0x3EBE, 0x3BEE), (24, 32))
_SHORT_MAGIC_AT = 8
_INODE_LSN_AT = INODE.offset("lsn")
_INODE_MAGIC = b"IN"


class Replayed:
    """What a log came to."""

    def __init__(self, overlay: Overlay, unfinished: bool) -> None:
        self.overlay = overlay
        self.unfinished = unfinished
        """Changes of files in several steps were begun that only their kernel can finish."""


async def replay_log(volume: Volume) -> Replayed | None:
    """Return what the log of a volume has newer; None if the volume was unmounted cleanly.

    Raises Corrupt, Unsupported if that cannot be told.
    """
    superblock = volume.superblock
    start = volume.offset(superblock.log_start, superblock.log_blocks)
    blocks = superblock.log_blocks * superblock.block_size // BASIC_BLOCK
    transactions = await Log(volume.reader, start, blocks).transactions()
    if not transactions:
        return None
    return await _Replay(volume, transactions).run()


class _Replay:
    def __init__(self, volume: Volume, transactions: list[Transaction]) -> None:
        self._volume = volume
        self._superblock = volume.superblock
        self._transactions = transactions
        self._blocks: dict[int, bytearray] = {}
        self._cancelled: Counter[tuple[int, int]] = Counter()
        self._cancelled_starts: Counter[int] = Counter()

    async def run(self) -> Replayed:
        decoded = [
            (transaction.lsn, [_decode(item) for item in transaction.items])
            for transaction in self._transactions
        ]
        intents = self._intents()
        for _, items in decoded:
            for item in items:
                if isinstance(item, BufferItem) and item.flags & BufferFlag.CANCEL:
                    self._cancelled[item.first, item.length] += 1
                    self._cancelled_starts[item.first] += 1
        await self._fetch([item for _, items in decoded for item in items])
        for lsn, items in decoded:
            self._apply(lsn, items)
        return Replayed(Overlay(self._blocks), bool(intents))

    def _intents(self) -> set[tuple[int, int]]:
        """Return the intents that were not finished."""
        begun: set[tuple[int, int]] = set()
        finishes = {done: intent for intent, done in INTENTS.items()}
        for transaction in self._transactions:
            for item in transaction.items:
                region = item.regions[0]
                kind = item_type(region)
                if kind in INTENTS:
                    begun.add((kind, intent_id(region)))
                elif kind in finishes:
                    begun.discard((finishes[ItemType(kind)], intent_id(region)))
        return begun

    async def _fetch(self, items: Iterable[_Decoded]) -> None:
        """Read the old contents of all that is changed."""
        numbers: set[int] = set()
        for item in items:
            first, count = 0, 0
            if isinstance(item, BufferItem):
                if item.patches:
                    first, count = item.first, item.length
            elif isinstance(item, InodeItem):
                first, count = self._inode_place(item) // BASIC_BLOCK, self._inode_blocks
            if (first + count) * BASIC_BLOCK > self._superblock.size:
                raise Corrupt(Damage.LOG_CHANGE_BEYOND_END_OF_VOLUME, first * BASIC_BLOCK)
            numbers.update(range(first, first + count))
        ordered = sorted(numbers)
        pieces = await self._volume.read_pieces(
            [number * BASIC_BLOCK for number in ordered], BASIC_BLOCK
        )
        self._blocks = dict(zip(ordered, map(bytearray, pieces), strict=True))

    @property
    def _inode_blocks(self) -> int:
        return -(-self._superblock.inode_size // BASIC_BLOCK)

    def _inode_place(self, item: InodeItem) -> int:
        return self._volume.inode_offset(item.number)

    def _apply(self, lsn: int, items: list[_Decoded]) -> None:
        """Apply a transaction, its buffers first, as what was logged of inodes may lie in new ones."""
        for item in items:
            if isinstance(item, InodeChunk):
                self._create(item)
            elif isinstance(item, BufferItem) and not item.flags & BufferFlag.CANCEL:
                self._change_buffer(lsn, item)
        for item in items:
            if isinstance(item, InodeItem) and not self._cancelled[item.cluster]:
                self._change_inode(lsn, item)
        for item in items:
            if isinstance(item, BufferItem) and item.flags & BufferFlag.CANCEL:
                self._cancelled[item.first, item.length] -= 1
                self._cancelled_starts[item.first] -= 1

    def _change_buffer(self, lsn: int, item: BufferItem) -> None:
        # Of buffers of inodes, only the list of those to be removed is logged like this.
        if item.flags & (BufferFlag.QUOTA | BufferFlag.INODES) or item.holds in IGNORED_BUFFERS:
            return
        if self._cancelled[item.first, item.length] > 0:
            return
        data = self._load(item.first, item.length)
        if _newer(self._buffer_lsn(data), lsn):
            return
        for offset, patch in item.patches:
            data[offset : offset + len(patch)] = patch
        self._store(item.first, data)

    def _change_inode(self, lsn: int, item: InodeItem) -> None:
        where, size = self._inode_place(item), self._superblock.inode_size
        first, inside = divmod(where, BASIC_BLOCK)
        data = self._load(first, self._inode_blocks)
        inode = data[inside : inside + size]
        if inode[:2] != _INODE_MAGIC:
            raise Corrupt(Damage.LOG_INODE_IS_NONE_ON_VOLUME, where, of=item.number)
        if self._superblock.checksums:
            known = int.from_bytes(inode[_INODE_LSN_AT : _INODE_LSN_AT + 8], "big")
            if _newer(known, lsn):
                return
        data[inside : inside + size] = apply_inode(
            bytes(inode), item, version_5=self._superblock.checksums
        )
        self._store(first, data)

    def _create(self, chunk: InodeChunk) -> None:
        """Make unused inodes, for the log has only what is done with them later."""
        superblock = self._superblock
        if chunk.inode_size != superblock.inode_size:
            raise Corrupt(Damage.LOG_SIZE_OF_NEW_INODES, actual=chunk.inode_size)
        block = chunk.group << superblock.group_blocks_log | chunk.block
        where = self._volume.offset(block, chunk.blocks)
        size = superblock.inode_size
        inodes = chunk.blocks * superblock.block_size // size
        if chunk.inodes > inodes or chunk.blocks * superblock.block_size > _LARGEST_CHUNK:
            raise Corrupt(Damage.LOG_NUMBER_OF_NEW_INODES, where, actual=chunk.inodes)
        first = where // BASIC_BLOCK
        end = first + chunk.blocks * superblock.block_size // BASIC_BLOCK
        if any(self._cancelled_starts[number] > 0 for number in range(first, end)):
            # They are given up later on, and their blocks may hold anything.
            return
        first_number = block << superblock.inodes_per_block_log
        data = bytearray(inodes * size)
        template = INODE.build(
            magic=int.from_bytes(_INODE_MAGIC, "big"),
            version=3,
            next_unlinked=0xFFFFFFFF,
            uuid=superblock.metadata_uuid,
        )
        for index in range(inodes):
            data[index * size : index * size + len(template)] = template
            number_at = index * size + INODE.offset("number")
            data[number_at : number_at + 8] = (first_number + index).to_bytes(8, "big")
        self._store(first, data)

    def _load(self, first: int, count: int) -> bytearray:
        try:
            return bytearray().join(self._blocks[first + index] for index in range(count))
        except KeyError:
            raise Corrupt(Damage.LOG_CHANGE_OF_WHAT_WAS_NOT_READ, first * BASIC_BLOCK) from None

    def _store(self, first: int, data: bytearray) -> None:
        for index in range(len(data) // BASIC_BLOCK):
            self._blocks[first + index] = data[index * BASIC_BLOCK : (index + 1) * BASIC_BLOCK]

    def _buffer_lsn(self, data: bytearray) -> int:
        """Return the number of the record that a structure was written for, 0 if it has none."""
        if not self._superblock.checksums:
            return 0
        places = _LSN_BY_MAGIC.get(bytes(data[:4]))
        if places is None:
            magic = int.from_bytes(data[_SHORT_MAGIC_AT : _SHORT_MAGIC_AT + 2], "big")
            places = _LSN_BY_SHORT_MAGIC.get(magic)
        if places is None:
            return 0
        lsn_at, uuid_at = places
        known = bytes(data[uuid_at : uuid_at + 16])
        if known not in (self._superblock.metadata_uuid, self._superblock.uuid):
            return 0
        return int.from_bytes(data[lsn_at : lsn_at + 8], "big")


_Decoded = BufferItem | InodeItem | InodeChunk | None
_LARGEST_CHUNK = 1 << 20
"""Bytes: 64 inodes of 2 KiB in a block of 64 KiB each would be more than there ever are."""


def _decode(item: Item) -> _Decoded:
    """Decode an item; None for those that change nothing of what is read here. Raises Corrupt."""
    kind = item_type(item.regions[0])
    if kind == ItemType.BUFFER:
        return decode_buffer(item.regions)
    if kind == ItemType.INODE:
        return decode_inode(item.regions)
    if kind == ItemType.ICREATE:
        return decode_icreate(item.regions)
    return None


def _newer(known: int, lsn: int) -> bool:
    """Tell whether a structure is of a later record than `lsn`."""
    return known not in (0, _UNKNOWN_LSN) and known > lsn
