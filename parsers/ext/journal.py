"""Replaying a journal in memory.

Strategy: only the journal's own blocks (descriptors, revocations, commits) are looked at when a volume
is opened. They tell which block of the volume has its newest version where in the journal; it is read,
and its checksum checked, when that block is read. Nothing is written.
Source: Linux kernel documentation, filesystems/ext4, "Journal (jbd2)".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.fast_commit import FastCommits, decode_fast_commits
from vmount.parsers.ext.journal_blocks import (
    MAGIC,
    BlockType,
    JournalFeature,
    JournalSuperblock,
    Tag,
    add_to_crc,
    block_damage,
    block_is_whole,
    commit_is_whole,
    commit_seconds,
    decode_header,
    decode_journal_superblock,
    decode_revoked,
    decode_tags,
)
from vmount.parsers.model import Run
from vmount.parsers.reader import Reader
from vmount.parsers.runs import RunBuilder, RunList

MAX_BLOCKS = 1 << 21
"""Blocks of a journal: mke2fs makes 262,144 for the largest volumes unless told otherwise.
Where each has its newest version is kept in memory."""
MAX_FAST_COMMITS = 32 << 20
"""Bytes: mke2fs gives them 256 blocks unless told otherwise. They are read when the volume is opened."""
_WINDOW = 1 << 20
"""Bytes of the journal read at once."""
_SEQUENCES = 1 << 32


class _Version(NamedTuple):
    """The newest version of a block."""

    tag: Tag
    sequence: int
    """Of its transaction."""
    where: int
    """Offset in the volume of the journal's copy."""


class _Transaction(NamedTuple):
    sequence: int
    versions: list[_Version]
    revoked: list[int]


class JournalOverlay:
    """The blocks that the journal has newer than their own places."""

    def __init__(
        self,
        superblock: JournalSuperblock,
        block_size: int,
        versions: dict[int, _Version],
        problem: str = "",
        fast_commits: FastCommits | None = None,
    ) -> None:
        self.fast_commits = fast_commits or FastCommits()
        self.problem = problem
        """Why not all of the journal is replayed; "" if it is."""
        self._superblock = superblock
        self._block_size = block_size
        self._versions = versions
        self._ordered = sorted(versions)

    def __len__(self) -> int:
        return len(self._versions)

    async def apply(self, reader: Reader, offset: int, data: bytes) -> bytes:
        """Return `data`, which was read at `offset`, with what the journal has newer.

        Raises Corrupt if that is damaged.
        """
        size = self._block_size
        newer = _between(self._ordered, offset // size, -(-(offset + len(data)) // size))
        if not newer:
            return data
        result = bytearray(data)
        for number in newer:
            block = await self._block(reader, self._versions[number])
            at = number * size - offset
            first, end = max(at, 0), min(at + size, len(data))
            result[first:end] = block[first - at : end - at]
        return bytes(result)

    async def _block(self, reader: Reader, version: _Version) -> bytes:
        data = bytes(await reader.read(version.where, self._block_size))
        if not block_is_whole(self._superblock, version.tag, version.sequence, data):
            raise Corrupt(Damage.BLOCK_IN_JOURNAL_CHECKSUM, version.where)
        return MAGIC.to_bytes(4, "big") + data[4:] if version.tag.escaped else data

    async def relocate(self, reader: Reader, runs: RunList) -> tuple[RunList, list[int]]:
        """Return the runs of a file with those parts moved that the journal has newer, and the offsets in the
        file of blocks that are escaped there.
        """
        size = self._block_size
        moved = RunBuilder()
        escaped: list[int] = []
        for offset, length, start in runs:
            if start is None:
                moved.add(length, None)
                continue
            position = start
            for number in _between(self._ordered, start // size, -(-(start + length) // size)):
                version = self._versions[number]
                await self._block(reader, version)
                at = number * size
                if version.tag.escaped:
                    escaped.append(offset + at - start)
                moved.add(at - position, position)
                end = min(at + size, start + length)
                moved.add(end - at, version.where)
                position = end
            moved.add(start + length - position, position)
        return moved.finish(), escaped


async def read_journal(reader: Reader, block_size: int, runs: Sequence[Run]) -> JournalOverlay:
    """Find what the journal, a file at `runs`, has to be replayed.

    Like the kernel it ends at the first transaction that is not committed. Where a commit is damaged,
    those before it are used and the overlay's `problem` says so.
    Raises Corrupt for other damage in what is committed, Unsupported for features that cannot be read.
    """
    log = _Log(reader, block_size, runs)
    data, where = await log.block(0)
    superblock = decode_journal_superblock(data, where, log.blocks)
    if superblock.end > MAX_BLOCKS:
        raise Unsupported(f"a journal of more than {MAX_BLOCKS} blocks")
    if not superblock.start:
        return JournalOverlay(superblock, block_size, {})
    replay = _Replay(superblock, log)
    versions = await replay.run()
    commits, problem = FastCommits(), replay.problem
    if not problem:
        try:
            commits = await _fast_commits(superblock, log, block_size, replay.sequence)
        except (Corrupt, Unsupported) as error:
            problem = str(error)
        if commits.torn:
            problem = "a fast commit of the journal is incomplete"
    return JournalOverlay(superblock, block_size, versions, problem, commits)


async def _fast_commits(
    superblock: JournalSuperblock, log: _Log, block_size: int, sequence: int
) -> FastCommits:
    if superblock.fast_commit_blocks * block_size > MAX_FAST_COMMITS:
        raise Unsupported(f"an area for fast commits of more than {MAX_FAST_COMMITS} bytes")
    first = superblock.end + 1
    blocks = [
        (await log.block(index))[0] for index in range(first, first + superblock.fast_commit_blocks)
    ]
    return decode_fast_commits(blocks, sequence)


class _Replay:
    def __init__(self, superblock: JournalSuperblock, log: _Log) -> None:
        self._superblock = superblock
        self._log = log
        self._position = superblock.start
        self._left = superblock.end - superblock.first
        self._last_seconds = 0
        self._failed: int | None = None
        self.problem = ""
        self.sequence = superblock.sequence
        """Of the transaction that would come next."""

    async def run(self) -> dict[int, _Version]:
        """Return the newest version of each block of the volume that has one in the journal."""
        sequence = self._superblock.sequence
        transactions: list[_Transaction] = []
        while (transaction := await self._transaction(sequence)) is not None:
            if self._failed is None:
                transactions.append(transaction)
            sequence = (sequence + 1) % _SEQUENCES
        self.sequence = sequence if self._failed is None else self._failed
        # A block that was freed and used again for a file's data must not get its old contents back.
        revoked = {block: one.sequence for one in transactions for block in one.revoked}
        newest = {}
        for one in transactions:
            for version in one.versions:
                block = version.tag.block
                if block not in revoked or _after(one.sequence, revoked[block]):
                    newest[block] = version
        return newest

    async def _transaction(self, sequence: int) -> _Transaction | None:
        """Read a transaction; None if it is not there as a whole."""
        versions: list[_Version] = []
        revocations: list[tuple[bytes, int]] = []
        damage: Corrupt | None = None
        crc = 0
        while self._left > 0:
            data, where = await self._log.block(self._position)
            header = decode_header(data)
            if header is None or header[1] != sequence:
                return None
            self._advance(1)
            kind = header[0]
            if kind == BlockType.DESCRIPTOR:
                damage = damage or block_damage(self._superblock, data, where)
                crc = self._add_to_crc(crc, data)
                for tag in decode_tags(self._superblock, data):
                    if self._left <= 0:
                        return None
                    versions.append(_Version(tag, sequence, self._log.place(self._position)))
                    if self._superblock.data_checksums:
                        crc = self._add_to_crc(crc, (await self._log.block(self._position))[0])
                    self._advance(1)
            elif kind == BlockType.REVOKE:
                damage = damage or block_damage(self._superblock, data, where)
                revocations.append((data, where))
            elif kind == BlockType.COMMIT:
                if not self._is_committed(sequence, data, crc, damage):
                    return None
                revoked = [
                    block
                    for revocation in revocations
                    for block in decode_revoked(self._superblock, *revocation)
                ]
                return _Transaction(sequence, versions, revoked)
            else:
                return None
        return None

    def _add_to_crc(self, crc: int, data: bytes) -> int:
        return add_to_crc(crc, data) if self._superblock.data_checksums else 0

    def _is_committed(self, sequence: int, data: bytes, crc: int, damage: Corrupt | None) -> bool:
        """Tell whether a commit ends a transaction of this journal.

        One with an earlier time than the one before is left from an earlier use of the journal, and so may be
        any damage before it. Raises `damage` where that is not so.
        """
        seconds = commit_seconds(data)
        if damage is not None:
            if seconds < self._last_seconds:
                return False
            raise damage
        if self._failed is not None:
            self.problem = f"transaction {self._failed} of the journal is damaged"
            return False
        if not commit_is_whole(self._superblock, data, crc):
            if seconds < self._last_seconds:
                return False
            self._failed = sequence
            if self._superblock.features & JournalFeature.ASYNC_COMMIT:
                # Written without waiting for its blocks: the last one may well be incomplete.
                return True
            self.problem = f"transaction {sequence} of the journal is damaged"
            return False
        self._last_seconds = seconds
        return True

    def _advance(self, blocks: int) -> None:
        self._left -= blocks
        self._position += blocks
        if self._position >= self._superblock.end:
            self._position -= self._superblock.end - self._superblock.first


class _Log:
    """The blocks of the journal's file."""

    def __init__(self, reader: Reader, block_size: int, runs: Sequence[Run]) -> None:
        self._reader = reader
        self._block_size = block_size
        self._runs = runs
        self._starts = [run.offset for run in runs]
        self.blocks = sum(run.length for run in runs) // block_size
        """Number of blocks."""
        self._window = b""
        self._window_at = 0

    def place(self, index: int) -> int:
        """Return the offset in the volume of a block. Raises Corrupt if there is none."""
        offset = index * self._block_size
        if index < self.blocks:
            run = self._runs[bisect_right(self._starts, offset) - 1]
            if run.start is not None:
                return run.start + offset - run.offset
        raise Corrupt(Damage.JOURNAL_LACKS_BLOCK, actual=index)

    async def block(self, index: int) -> tuple[bytes, int]:
        """Return a block and its offset in the volume."""
        where = self.place(index)
        at = where - self._window_at
        if not 0 <= at <= len(self._window) - self._block_size:
            length = min(_WINDOW, self._reader.size - where)
            self._window = bytes(await self._reader.read(where, max(length, self._block_size)))
            self._window_at, at = where, 0
        return self._window[at : at + self._block_size], where


def _after(sequence: int, other: int) -> bool:
    """Tell whether a transaction is later than another; their numbers wrap around."""
    return 0 < (sequence - other) % _SEQUENCES < _SEQUENCES // 2


def _between(ordered: Sequence[int], first: int, end: int) -> Sequence[int]:
    return ordered[bisect_left(ordered, first) : bisect_left(ordered, end)]
