"""From an MFT record to what `stat` tells.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "FILE Record" and
"$STANDARD_INFORMATION"; what stat gets from them is as in ntfs-3g.
"""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.model import Attrs
from vmount.parsers.ntfs.attribute import (
    ATTRIBUTE,
    ATTRIBUTE_LIST,
    COMPRESSED_MASK,
    DATA,
    FILE_NAME,
    I30,
    INDEX_ALLOCATION,
    NONRESIDENT,
    RESIDENT,
    SPARSE,
    STANDARD_INFORMATION,
)
from vmount.parsers.ntfs.file_name import DOS, FILE_NAME_KEY
from vmount.parsers.ntfs.record import DIRECTORY
from vmount.parsers.ntfs.standard_information import (
    FILETIME_EPOCH,
    REPARSE,
    STANDARD,
    SYSTEM,
    decode_standard_of,
)
from vmount.parsers.ntfs.stream import select
from vmount.parsers.ntfs.wof import STREAM as WOF_STREAM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.record import Record

DIRECTORY_MODE = stat.S_IFDIR | 0o755
FILE_MODE = stat.S_IFREG | 0o644
LINK_MODE = stat.S_IFLNK | 0o777

BLOCK = 512
"""Bytes that st_blocks counts."""

_DOS = bytes((DOS,))
_head = ATTRIBUTE.picker("type", "length", "nonresident", "name_length", "flags").unpack_from
_resident = RESIDENT.picker("value_length", "value_offset").unpack_from
_sizes = NONRESIDENT.picker("allocated_size", "data_size", "initialized_size").unpack_from
_standard = STANDARD.picker(
    "created", "modified", "changed", "accessed", "file_attributes"
).unpack_from
_NAMESPACE = FILE_NAME_KEY.offset("namespace")
_new = tuple.__new__


class Special(NamedTuple):
    """A file that is shown as something else than its record's flags say."""

    mode: int
    size: int
    rdev: int = 0


def quick_attrs(record: Record) -> Attrs | None:
    """Return what `file_attrs` would for a file whose first record says it all, and plainly.

    None: somebody has to look closer, be it because the file is special or because it is damaged. This is
    what a listing does for each of its files: it goes over the attributes once and keeps nothing.
    """
    ino, _, links, flags, _, data, position, _ = record
    directory = flags & DIRECTORY
    times: tuple[int, ...] = ()
    size = allocated = 0
    end = len(data)
    try:
        while True:
            kind, length, nonresident, name_length, bits = _head(data, position)
            if kind > INDEX_ALLOCATION:
                break
            if length < RESIDENT.size or position + length > end:
                return None
            if kind == STANDARD_INFORMATION:
                value_length, offset = _resident(data, position)
                if nonresident or value_length < STANDARD.size or offset + value_length > length:
                    return None
                times = _standard(data, position + offset)
                if times[4] & (REPARSE | SYSTEM):
                    return None
            elif kind == ATTRIBUTE_LIST:
                return None
            elif kind == FILE_NAME:
                if links > 1:
                    value_length, offset = _resident(data, position)
                    if nonresident or offset + FILE_NAME_KEY.size > length:
                        return None
                    links -= data[position + offset + _NAMESPACE] == DOS
            elif (kind == DATA and not name_length and not directory) or (
                kind == INDEX_ALLOCATION and directory
            ):
                if bits & (COMPRESSED_MASK | SPARSE):
                    return None
                if nonresident:
                    allocated, size, valid = _sizes(data, position)
                    if allocated < 0 or not 0 <= valid <= size:
                        return None
                else:
                    size = _resident(data, position)[0]
                    allocated = size + 511 & ~511
                break
            position += length
    except struct.error:
        return None
    if not times:
        return None
    created, modified, changed, accessed, _ = times
    attrs: Attrs = _new(
        Attrs,
        (
            ino,
            DIRECTORY_MODE if directory else FILE_MODE,
            1 if directory or links < 1 else links,
            0,
            0,
            size,
            allocated,
            0,
            (accessed - FILETIME_EPOCH) * 100,
            (modified - FILETIME_EPOCH) * 100,
            (changed - FILETIME_EPOCH) * 100,
            (created - FILETIME_EPOCH) * 100,
        ),
    )
    return attrs


def file_attrs(
    record: Record, attributes: Sequence[Attribute], special: Special | None = None
) -> Attrs:
    """Return a file's attributes, given its first record and the attributes of all its records.

    Links are counted as ntfs-3g does: a directory has one, names in the DOS namespace are none.
    The size of a directory is that of its index. A file compressed with WOF takes the space of its
    compressed stream, and any that a filter driver looks after a block at least. Raises Corrupt.
    """
    directory = record.is_directory
    created, modified, changed, accessed, bits = decode_standard_of(attributes)
    content = select(attributes, INDEX_ALLOCATION, I30) if directory else select(attributes, DATA)
    try:
        size, _, allocated = content[0].sizes if content else (0, 0, 0)
    except Corrupt:
        # An index is read by its clusters: its sizes are no more than what `ls` prints.
        if not directory:
            raise
        size = allocated = 0
    if bits & REPARSE and not directory:
        if stored := select(attributes, DATA, WOF_STREAM):
            allocated = stored[0].sizes.allocated
        if size:
            # To tar -S a file without blocks is zeros, and it would not try to read it.
            allocated = max(allocated, BLOCK)
    mode, rdev = DIRECTORY_MODE if directory else FILE_MODE, 0
    if special is not None:
        mode, size, rdev = special
    links = record.links
    if links > 1:
        links -= sum(a.value[_NAMESPACE:][:1] == _DOS for a in select(attributes, FILE_NAME))
    return Attrs(
        record.ino,
        mode,
        1 if directory or links < 1 else links,
        0,
        0,
        size,
        allocated,
        rdev,
        (accessed - FILETIME_EPOCH) * 100,
        (modified - FILETIME_EPOCH) * 100,
        (changed - FILETIME_EPOCH) * 100,
        (created - FILETIME_EPOCH) * 100,
    )
