"""Fast commits: what has changed since the journal's last transaction, said in tags in place of whole blocks.

Strategy: the tags are read once, when the volume is opened, into what they change: inodes, names, ranges of
blocks. They are applied where an inode, a directory or a map is read. Nothing is allocated, so that no tree of
extents or names has to be changed.
Source: Linux kernel documentation, filesystems/ext4, "Journal (jbd2)", "Fast commits"; fs/ext4/fast_commit.h for
the layout of tags.
"""

from __future__ import annotations

import stat
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.extent import EXTENT, MAGIC, MAX_INITIALISED
from vmount.parsers.ext.inode import INODE, InodeFlag
from vmount.parsers.ext.superblock import GOOD_OLD_INODE_SIZE
from vmount.parsers.layout import Field, Layout
from vmount.parsers.model import Run
from vmount.parsers.runs import RunBuilder, RunList


class TagType(IntEnum):
    """What a tag says."""

    ADD_RANGE = 1
    DEL_RANGE = 2
    CREATE = 3
    LINK = 4
    UNLINK = 5
    INODE = 6
    PAD = 7
    TAIL = 8
    HEAD = 9


TAG = Layout(
    "ext4 fast commit tag",
    Field("type", "H", at=0x00, note="fc_tag: TagType"),
    Field("length", "H", at=0x02, note="fc_len: bytes of the value, which follows"),
    size=4,
    source="Linux fs/ext4/fast_commit.h struct ext4_fc_tl",
)
DELETED_RANGE = Layout(
    "ext4 fast commit: deleted range",
    Field("ino", "I", at=0x00),
    Field("block", "I", at=0x04, note="fc_lblk: first block in the file"),
    Field("length", "I", at=0x08, note="fc_len: blocks"),
    size=12,
    source="Linux fs/ext4/fast_commit.h struct ext4_fc_del_range",
)
NAME_CHANGE = Layout(
    "ext4 fast commit: name",
    Field("parent", "I", at=0x00, note="fc_parent_ino: of the directory"),
    Field("ino", "I", at=0x04, note="the name follows, to the end of the value"),
    size=8,
    source="Linux fs/ext4/fast_commit.h struct ext4_fc_dentry_info",
)
COMMIT_HEAD = Layout(
    "ext4 fast commit head",
    Field("features", "I", at=0x00, note="fc_features: 0"),
    Field("sequence", "I", at=0x04, note="fc_tid: of the transaction that the fast commits follow"),
    size=8,
    source="Linux fs/ext4/fast_commit.h struct ext4_fc_head",
)
COMMIT_TAIL = Layout(
    "ext4 fast commit tail",
    Field("sequence", "I", at=0x00, note="fc_tid"),
    Field("checksum", "I", at=0x04, note="fc_crc: crc32c of all tags since the last tail"),
    size=8,
    source="Linux fs/ext4/fast_commit.h struct ext4_fc_tail",
)
_TAG = TAG.whole()
_DELETED_RANGE = DELETED_RANGE.whole()
_NAME_CHANGE = NAME_CHANGE.whole()
_HEAD = COMMIT_HEAD.whole()
_TAIL = COMMIT_TAIL.whole()
_LENGTHS = {
    TagType.ADD_RANGE: range(16, 17),
    TagType.DEL_RANGE: range(12, 13),
    TagType.CREATE: range(9, 8 + 256),
    TagType.LINK: range(9, 8 + 256),
    TagType.UNLINK: range(9, 8 + 256),
    TagType.INODE: range(4 + GOOD_OLD_INODE_SIZE, 1 << 16),
    TagType.PAD: range(1 << 16),
    TagType.TAIL: range(8, 1 << 16),
    TagType.HEAD: range(8, 9),
}
_BLOCK_AT, _GENERATION_AT = INODE.offset("block"), INODE.offset("generation")
_MODE_AT, _FLAGS_AT = INODE.offset("mode"), INODE.offset("flags")
_BLOCKS_AT = INODE.offset("blocks_low")
_EMPTY_TREE = struct.pack("<HHHHI", MAGIC, 0, 4, 0, 0).ljust(60, b"\0")
_MAX_MAPPED = 1 << 16
"""Tags of ranges of one file: the journal's area for fast commits has space for fewer unless it is huge."""


class MappedRange(NamedTuple):
    """Blocks of a file that have got a new place."""

    block: int
    """In the file."""
    length: int
    start: int | None
    """In the volume; None: a hole, or never written."""


@dataclass
class FastCommits:
    """What fast commits have changed."""

    inodes: dict[int, bytes] = field(default_factory=dict)
    """The newest form of inodes, without what follows their known fields."""
    ranges: dict[int, list[MappedRange]] = field(default_factory=dict)
    """Of files, in the order in which they were changed."""
    names: dict[int, dict[bytes, int]] = field(default_factory=dict)
    """By directory: the names that were made, with their inode numbers, or removed (0)."""
    new_directories: set[int] = field(default_factory=set)
    """They hold nothing but `names`."""

    torn: bool = False
    """The first one is incomplete: it was being written, or is damaged."""

    def merge_inode(self, ino: int, stored: bytes, block_size: int) -> bytes | None:
        """Return the inode `ino`, stored as `stored`, as it is after the fast commits; None if it is the same.

        Its checksum is not recomputed. What it says of its size on the disk is from before its blocks were
        allocated, and is raised to that of the ranges: programs take a file without blocks for one hole.
        """
        newer = self.inodes.get(ino)
        if newer is None:
            return None
        reused = (
            newer[_GENERATION_AT : _GENERATION_AT + 4]
            != (stored[_GENERATION_AT : _GENERATION_AT + 4])
        )
        (flags,) = struct.unpack_from("<I", newer, _FLAGS_AT)
        block = stored[_BLOCK_AT:_GENERATION_AT]
        if not flags & InodeFlag.EXTENTS:
            block = newer[_BLOCK_AT:_GENERATION_AT]
        elif reused or int.from_bytes(block[:2], "little") != MAGIC:
            block = _EMPTY_TREE
        rest = bytes(len(stored)) if reused else stored
        merged = bytearray(newer[:_BLOCK_AT] + block + newer[_GENERATION_AT:] + rest[len(newer) :])
        mapped = sum(one.length for one in self.ranges.get(ino, ()) if one.start is not None)
        if not flags & InodeFlag.HUGE_FILE:
            (sectors,) = struct.unpack_from("<I", merged, _BLOCKS_AT)
            sectors = min(max(sectors, mapped * (block_size // 512)), 0xFFFFFFFF)
            struct.pack_into("<I", merged, _BLOCKS_AT, sectors)
        return bytes(merged[: len(stored)])

    def apply_ranges(
        self, ino: int, runs: RunList, block_size: int, place: Callable[[int, int], int]
    ) -> RunList:
        """Return the runs of a file, which cover it without gaps, with new mappings applied.

        `place` gives the offset in bytes of blocks of the volume and raises Corrupt if there are none such.
        """
        ranges = self.ranges.get(ino)
        if not ranges or not runs:
            return runs
        size = runs.end
        result = list(runs)
        for block, length, start in ranges:
            offset = block * block_size
            where = None if start is None else place(start, length)
            count = min(length * block_size, size - offset)
            if count > 0:
                _replace(result, Run(offset, count, where))
        builder = RunBuilder()
        builder.extend(result)
        return builder.finish()

    def note(self, kind: int, value: bytes) -> None:
        """Add what a tag of a whole commit says. Raises Corrupt, Unsupported."""
        if kind == TagType.INODE:
            (ino,) = struct.unpack_from("<I", value)
            raw = value[4:]
            before = self.inodes.get(ino)
            if before is not None and before[_GENERATION_AT:][:4] != raw[_GENERATION_AT:][:4]:
                self.ranges.pop(ino, None)
            self.inodes[ino] = raw
        elif kind == TagType.ADD_RANGE:
            (ino,) = struct.unpack_from("<I", value)
            extent = EXTENT.parse(value[4:])
            start: int | None = extent.start_low | extent.start_high << 32
            length = extent.length
            if length > MAX_INITIALISED:
                start, length = None, length - MAX_INITIALISED
            self._map(ino, MappedRange(extent.block, length, start))
        elif kind == TagType.DEL_RANGE:
            ino, block, length = _DELETED_RANGE.unpack(value)
            self._map(ino, MappedRange(block, length, None))
        elif kind in (TagType.CREATE, TagType.LINK, TagType.UNLINK):
            parent, ino = _NAME_CHANGE.unpack_from(value)
            name = value[NAME_CHANGE.size :]
            if b"/" in name or b"\0" in name or name in (b".", b".."):
                raise Corrupt(Damage.FAST_COMMIT_IMPOSSIBLE_NAME)
            names = self.names.setdefault(parent, {})
            names[name] = 0 if kind == TagType.UNLINK else ino
            if kind == TagType.CREATE and self._is_directory(ino):
                self.new_directories.add(ino)
                self.names[ino] = {}

    def _map(self, ino: int, mapped: MappedRange) -> None:
        ranges = self.ranges.setdefault(ino, [])
        if len(ranges) == _MAX_MAPPED:
            raise Unsupported(f"more than {_MAX_MAPPED} changes to a file in fast commits")
        ranges.append(mapped)

    def _is_directory(self, ino: int) -> bool:
        raw = self.inodes.get(ino)
        return raw is not None and stat.S_ISDIR(struct.unpack_from("<H", raw, _MODE_AT)[0])


def decode_fast_commits(blocks: Sequence[bytes], sequence: int) -> FastCommits:
    """Return what the fast commits that follow transaction `sequence` - 1 have changed.

    `blocks` are those of the journal's area for fast commits. It ends at the last tail that is right.
    Raises Unsupported for features that are not known, Corrupt for what no kernel writes.
    """
    commits = FastCommits()
    pending: list[tuple[int, bytes]] = []
    crc = 0
    for index, data in enumerate(blocks):
        position = 0
        while position + _TAG.size <= len(data):
            kind, length = _TAG.unpack_from(data, position)
            value_at = position + _TAG.size
            if index == position == 0 and kind != TagType.HEAD:
                return commits
            known = kind in _LENGTHS and length in _LENGTHS[TagType(kind)]
            if not known or length > len(data) - value_at:
                return commits
            value = data[value_at : value_at + length]
            covered = data[position : value_at + length]
            if kind == TagType.HEAD:
                features, head_sequence = _HEAD.unpack(value)
                if features:
                    raise Unsupported(f"fast commits with features {features:#x}")
                if head_sequence != sequence:
                    return commits
                commits.torn = not commits.inodes
            if kind == TagType.TAIL:
                tail_sequence, stored = _TAIL.unpack_from(value)
                computed = crc32c(crc, data[position : value_at + 4])
                if (tail_sequence, stored) != (sequence, computed):
                    return commits
                for tag in pending:
                    commits.note(*tag)
                pending.clear()
                crc, commits.torn = 0, False
            else:
                crc = crc32c(crc, covered)
                pending.append((kind, value))
            position = value_at + length
    return commits


def _replace(runs: list[Run], new: Run) -> None:
    """Put a run in place of what is there."""
    end = new.offset + new.length
    first = bisect_right(runs, new.offset, key=lambda run: run.offset) - 1
    last = bisect_right(runs, end - 1, key=lambda run: run.offset) - 1
    pieces = [new]
    before, after = runs[first], runs[last]
    if before.offset < new.offset:
        pieces.insert(0, before._replace(length=new.offset - before.offset))
    after_end = after.offset + after.length
    if after_end > end:
        start = None if after.start is None else after.start + end - after.offset
        pieces.append(Run(end, after_end - end, start))
    runs[first : last + 1] = pieces
