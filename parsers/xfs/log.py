"""The log: where its live part is, and the transactions in that.

Strategy: where the cycles change is where the log ends; it is searched for with a few reads at a time,
announced together. A clean log ends in a record that says so, and nothing more is read. Else
the live part is read record by record from the tail on, to the first that is not whole: what the machine was
writing when it stopped.
Source: "XFS Algorithms & Data Structures", "Journaling Log".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.reader import Reader, Span
from vmount.parsers.xfs.checksum import BASIC_BLOCK
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.log_record import (
    MAX_HEADERS,
    MAX_LENGTH,
    OperationFlag,
    RecordHeader,
    block_cycle,
    decode_header,
    is_unmount,
    is_whole,
    operations,
)

MAX_LIVE = 256 << 20
"""Bytes of the live part of a log: it is kept in memory while it is replayed."""
IN_FLIGHT = 8 * MAX_LENGTH // BASIC_BLOCK
"""Basic blocks that the kernel may have been writing, in any order."""
_WAYS = 16
"""Parts that a step of the search divides its range into."""
_WINDOW = 1 << 20
_TRANSACTION_HEADER = 16


class Item(NamedTuple):
    """A logged change: its regions, the first of which says what it is of."""

    regions: list[bytes]


@dataclass
class Transaction:
    """A committed transaction."""

    lsn: int
    """Of the record in which it starts."""
    items: list[Item] = field(default_factory=list)


class Log:
    """The log of a volume: a ring of basic blocks."""

    def __init__(self, reader: Reader, start: int, blocks: int) -> None:
        """`start` is its offset in the volume in bytes, `blocks` its length in basic blocks."""
        self._reader = reader
        self._start = start
        self._blocks = blocks
        self._window = b""
        self._window_at = 0

    async def transactions(self) -> list[Transaction]:
        """Return the committed transactions that may not have reached their places, in order.

        There are none if the file system was unmounted cleanly. Raises Corrupt, Unsupported.
        """
        head = await self._head()
        if head is None:
            return []
        last = await self._last_record(head)
        if last is None:
            raise Corrupt(Damage.LOG_WITHOUT_RECORD, self._start)
        header, record, at = last
        at_end = (at + header.total) % self._blocks == head % self._blocks
        if at_end and self._is_whole(header, record, at) and is_unmount(header, record):
            return []
        self._announce(header.tail_lsn & 0xFFFFFFFF, head % self._blocks)
        collector = _Collector()
        end, newest = await self._follow(header.tail_lsn, collector)
        if newest is None or self._distance(end, head % self._blocks) > IN_FLIGHT:
            raise Corrupt(Damage.LOG_RECORD, self._start + end * BASIC_BLOCK)
        if newest.tail_lsn != header.tail_lsn:
            # The last record was not whole, and those before it need more of the log.
            collector = _Collector()
            await self._follow(newest.tail_lsn, collector, end)
        return collector.committed

    def _announce(self, first: int, end: int) -> None:
        """Say that the blocks from `first` to before `end` will be read."""
        pieces = [(first, end)] if first <= end else [(first, self._blocks), (0, end)]
        step = _WINDOW // BASIC_BLOCK
        spans = [
            Span(self._start + at * BASIC_BLOCK, min(step, piece_end - at) * BASIC_BLOCK)
            for start, piece_end in pieces
            for at in range(start, min(piece_end, self._blocks), step)
        ]
        self._reader.prefetch(spans[: MAX_LIVE // _WINDOW])

    def _distance(self, first: int, end: int) -> int:
        return (end - first) % self._blocks

    async def _head(self) -> int | None:
        """Return the block after the last that was written in the newest cycle; None: there never was one."""
        cycles = await self._cycles([0, self._blocks - 1])
        first, last = cycles
        if first == 0:
            return None
        if first == last:
            return self._blocks
        low, high = 0, self._blocks - 1
        # The cycle at `high` is that of the end, at `low` it is newer.
        while high - low > 1:
            step = max(1, (high - low) // _WAYS)
            probes = list(range(low + step, high, step))
            for probe, cycle in zip(probes, await self._cycles(probes), strict=True):
                if cycle == last:
                    high = probe
                    break
                low = probe
        return high

    async def _cycles(self, blocks: list[int]) -> list[int]:
        spans = [Span(self._start + block * BASIC_BLOCK, BASIC_BLOCK) for block in blocks]
        if len(spans) > 1:
            self._reader.prefetch(spans)
        return [block_cycle(bytes(await self._reader.read(*span))) for span in spans]

    async def _last_record(self, head: int) -> tuple[RecordHeader, bytes, int] | None:
        """Return the last record that starts before `head`, and its block."""
        longest = MAX_HEADERS + MAX_LENGTH // BASIC_BLOCK
        for back in range(1, min(self._blocks, IN_FLIGHT + longest) + 1):
            at = (head - back) % self._blocks
            block = await self._block(at)
            header = decode_header(block, self._start + at * BASIC_BLOCK)
            if header is not None and header.lsn & 0xFFFFFFFF == at:
                return header, await self._record(at, header), at
        return None

    def _is_whole(self, header: RecordHeader, record: bytes, at: int) -> bool:
        return is_whole(header, record, at=at, log_blocks=self._blocks)

    async def _block(self, at: int) -> bytes:
        """Return one block, out of a window that ends with it or starts before it."""
        if not self._window_at <= at < self._window_at + len(self._window) // BASIC_BLOCK:
            count = min(128, at + 1)
            await self._fill(at + 1 - count, count)
        position = (at - self._window_at) * BASIC_BLOCK
        return self._window[position : position + BASIC_BLOCK]

    async def _fill(self, at: int, count: int) -> None:
        self._window = bytes(
            await self._reader.read(self._start + at * BASIC_BLOCK, count * BASIC_BLOCK)
        )
        self._window_at = at

    async def _record(self, at: int, header: RecordHeader) -> bytes:
        """Return a record with its header, which may go on at the start of the ring."""
        if header.total > self._blocks:
            raise Corrupt(Damage.LOG_RECORD_LONGER_THAN_LOG, self._start + at * BASIC_BLOCK)
        first = min(header.total, self._blocks - at)
        data = await self._ahead(at, first)
        if first < header.total:
            data += await self._ahead(0, header.total - first)
        return data

    async def _ahead(self, at: int, count: int) -> bytes:
        """Return blocks out of a window that is filled with them and what follows."""
        if not self._window_at <= at <= self._window_at + len(self._window) // BASIC_BLOCK - count:
            ahead = max(count, _WINDOW // BASIC_BLOCK)
            await self._fill(at, min(ahead, self._blocks - at))
        position = (at - self._window_at) * BASIC_BLOCK
        return self._window[position : position + count * BASIC_BLOCK]

    async def _follow(
        self, lsn: int, collector: _Collector | None, end: int | None = None
    ) -> tuple[int, RecordHeader | None]:
        """Go through whole records from one to block `end`, or as far as they go.

        Return where that is, and the last record.
        """
        cycle, at = lsn >> 32, lsn & 0xFFFFFFFF
        newest, seen = None, 0
        while at < self._blocks and not (seen and at == end):
            where = self._start + at * BASIC_BLOCK
            try:
                header = decode_header(await self._ahead(at, 1), where)
            except Corrupt:
                break
            if header is None or header.lsn != cycle << 32 | at or header.cycle != cycle:
                break
            seen += header.total
            if seen > self._blocks:
                break
            if seen * BASIC_BLOCK > MAX_LIVE:
                raise Unsupported(f"a log with more than {MAX_LIVE} bytes to be replayed")
            record = await self._record(at, header)
            if not self._is_whole(header, record, at):
                break
            if collector is not None:
                collector.add(header, record)
            newest = header
            at += header.total
            if at >= self._blocks:
                at -= self._blocks
                cycle += 1
        return at, newest


class _Collector:
    """Puts transactions together from operations."""

    def __init__(self) -> None:
        self.committed: list[Transaction] = []
        self._open: dict[int, _Assembly] = {}

    def add(self, header: RecordHeader, record: bytes) -> None:
        for operation in operations(header, record):
            flags = operation.flags & ~OperationFlag.END
            number = operation.transaction
            if flags & OperationFlag.UNMOUNT:
                continue
            if flags & OperationFlag.START:
                self._open[number] = _Assembly(header.lsn)
                continue
            assembly = self._open.get(number)
            if assembly is None:
                # It started before the tail: all of it is in its place.
                continue
            if flags & OperationFlag.COMMIT:
                self.committed.append(assembly.finish())
                del self._open[number]
            elif flags & OperationFlag.CONTINUED:
                assembly.go_on(operation.region)
            else:
                assembly.add(operation.region)


class _Assembly:
    """A transaction that is being read."""

    def __init__(self, lsn: int) -> None:
        self._transaction = Transaction(lsn)
        self._header = b""
        self._left = 0

    def add(self, region: bytes) -> None:
        """Take the next region, or the first part of it."""
        if len(self._header) < _TRANSACTION_HEADER:
            self._header += region
        elif self._left:
            self._transaction.items[-1].regions.append(region)
            self._left -= 1
        else:
            if len(region) < 4:
                raise Corrupt(Damage.LOG_ITEM_CUT_OFF, self._transaction.lsn)
            self._transaction.items.append(Item([region]))
            self._left = int.from_bytes(region[2:4], "little") - 1

    def go_on(self, region: bytes) -> None:
        """Take a further part of the region that the last record broke off."""
        items = self._transaction.items
        if items:
            items[-1].regions[-1] += region
        else:
            self._header += region

    def finish(self) -> Transaction:
        if self._left > 0:
            raise Corrupt(Damage.LOG_ITEM_WITHOUT_ALL_OF_REGIONS, self._transaction.lsn)
        return self._transaction
