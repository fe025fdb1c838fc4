"""The set of entries that describes a file: one of the file, one of its stream, its name in parts.

Source: the specification, sections 6.3.3 (the checksum), 7.4, 7.6 and 7.7.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.exfat.entry import BENIGN, ENTRY_SIZE, FILE, IN_USE, NAME, SECONDARY, STREAM
from vmount.parsers.fat.timestamp import decode_time
from vmount.parsers.layout import Field, Layout
from vmount.parsers.model import Attrs, checked_attrs
from vmount.parsers.reader import Buffer
from vmount.parsers.wtf8 import from_utf16

FILE_ENTRY = Layout(
    "exFAT file entry",
    Field("type", "B", at=0x00, note="EntryType: 0x85"),
    Field("secondaries", "B", at=0x01, note="SecondaryCount: entries that follow and belong to it"),
    Field("checksum", "H", at=0x02, note="SetChecksum: of the whole set"),
    Field("attributes", "H", at=0x04, note="FileAttributes"),
    Field("reserved1", "2x", at=0x06),
    Field("created", "I", at=0x08, note="CreateTimestamp: date and time as in FAT, as the others"),
    Field("modified", "I", at=0x0C, note="LastModifiedTimestamp"),
    Field("accessed", "I", at=0x10, note="LastAccessedTimestamp"),
    Field("created_centiseconds", "B", at=0x14, note="Create10msIncrement: 0 to 199"),
    Field("modified_centiseconds", "B", at=0x15, note="LastModified10msIncrement"),
    Field(
        "created_zone",
        "B",
        at=0x16,
        note="CreateUtcOffset: quarters of an hour in 7 bits; 0x80: valid",
    ),
    Field("modified_zone", "B", at=0x17, note="LastModifiedUtcOffset"),
    Field("accessed_zone", "B", at=0x18, note="LastAccessedUtcOffset"),
    Field("reserved2", "7x", at=0x19),
    size=32,
    source="Microsoft exFAT specification, 7.4 (File)",
)

STREAM_ENTRY = Layout(
    "exFAT stream extension entry",
    Field("type", "B", at=0x00, note="EntryType: 0xC0"),
    Field(
        "flags",
        "B",
        at=0x01,
        note="GeneralSecondaryFlags: 1: clusters are allocated; 2: they lie side by side, not in the FAT",
    ),
    Field("reserved1", "x", at=0x02),
    Field("name_units", "B", at=0x03, note="NameLength: UTF-16 code units"),
    Field("name_hash", "H", at=0x04),
    Field("reserved2", "2x", at=0x06),
    Field("valid", "Q", at=0x08, note="ValidDataLength: bytes; from here to size reads as zeros"),
    Field("reserved3", "4x", at=0x10),
    Field("first_cluster", "I", at=0x14),
    Field("size", "Q", at=0x18, note="DataLength: bytes"),
    size=32,
    source="Microsoft exFAT specification, 7.6 (Stream Extension)",
)

MAX_SET = 256
"""Entries in a set: the number of secondary ones is a byte. A name of 255 takes 19, vendors may add more."""

UNITS_IN_ENTRY = 15
DIRECTORY = 0x10
ALLOCATED = 0x01
NO_FAT_CHAIN = 0x02
"""Flags of a stream: it may have clusters; they lie side by side and the FAT says nothing of them."""

_ZONE_VALID = 0x80

_FILE = FILE_ENTRY.picker(*(f.name for f in FILE_ENTRY.fields if not f.name.startswith("reserved")))
_STREAM = STREAM_ENTRY.picker(
    *(f.name for f in STREAM_ENTRY.fields if not f.name.startswith("reserved"))
)
_new = tuple.__new__


class FileEntry(NamedTuple):
    """What a set says of its file. Times are of DOS with 10 ms and zone as on the disk."""

    name: str
    attributes: int
    created: tuple[int, int, int]
    modified: tuple[int, int, int]
    accessed: tuple[int, int, int]
    flags: int
    name_hash: int
    first_cluster: int
    """0: none."""
    size: int
    valid: int
    entries: int
    """In the set."""

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return bool(self.attributes & DIRECTORY)

    @property
    def is_contiguous(self) -> bool:
        """Whether its clusters lie side by side and the FAT says nothing of them."""
        return bool(self.flags & NO_FAT_CHAIN)


def decode_set(data: Buffer, offset: int = 0) -> FileEntry:
    """Decode the set whose file entry is at `offset`.

    Raises Corrupt if it is damaged, Unsupported if it has an entry that must not be ignored and is
    not known here.
    """
    if len(data) - offset < ENTRY_SIZE or data[offset] != FILE:
        raise Corrupt("no file entry", expected=FILE)
    _, secondaries, checksum, attributes, created, modified, accessed, *details = _FILE.unpack_from(
        data, offset
    )
    if secondaries < 2:
        raise Corrupt("number of secondary entries", expected="at least 2", actual=secondaries)
    end = offset + (secondaries + 1) * ENTRY_SIZE
    if end > len(data):
        raise Corrupt("directory ends within a file's entries", actual=secondaries)
    raw = bytes(data[offset:end])
    actual = set_checksum(raw)
    if actual != checksum:
        raise Corrupt("checksum of a file's entries", expected=checksum, actual=actual)
    if raw[ENTRY_SIZE] != STREAM:
        raise Corrupt("no stream extension entry", expected=STREAM, actual=raw[ENTRY_SIZE])
    _, flags, units, name_hash, valid, first_cluster, size = _STREAM.unpack_from(raw, ENTRY_SIZE)
    parts = -(-units // UNITS_IN_ENTRY)
    if not 1 <= parts < secondaries:
        expected = f"{parts + 1} secondary entries"
        raise Corrupt("length of a name", expected=expected, actual=secondaries)
    for number, kind in enumerate(raw[2 * ENTRY_SIZE :: ENTRY_SIZE]):
        if number < parts:
            if kind != NAME:
                raise Corrupt("no file name entry", expected=NAME, actual=kind)
        elif kind & (IN_USE | SECONDARY | BENIGN) != IN_USE | SECONDARY | BENIGN:
            raise Unsupported(f"exFAT directory entry of type {kind:#x}")
    if valid > size:
        raise Corrupt("valid data longer than the file", expected=size, actual=valid)
    if size and not flags & ALLOCATED:
        # By the specification the other two fields say nothing then. Where they name clusters whose chain is
        # as long as the file, the flags are what is wrong; `chain` refuses all else.
        flags = ALLOCATED
    created10, modified10, *zones = details
    return _new(
        FileEntry,
        (
            _name(raw, parts, units),
            attributes,
            (created, created10, zones[0]),
            (modified, modified10, zones[1]),
            (accessed, 0, zones[2]),
            flags,
            name_hash,
            first_cluster if flags & ALLOCATED else 0,
            size,
            valid,
            secondaries + 1,
        ),
    )


def guess_name(data: Buffer, offset: int) -> str | None:
    """Return the name of the damaged set at `offset` as far as it can be told."""
    stream = offset + ENTRY_SIZE
    if len(data) < stream + ENTRY_SIZE or data[stream] != STREAM:
        return None
    units = data[stream + 3]
    raw = bytes(data[offset : stream + (1 + -(-units // UNITS_IN_ENTRY)) * ENTRY_SIZE])
    kinds = raw[2 * ENTRY_SIZE :: ENTRY_SIZE]
    whole = len(raw) // ENTRY_SIZE - 2
    if not whole or any(kind != NAME for kind in kinds):
        return None
    return _name(raw, whole, units)


def set_checksum(raw: bytes) -> int:
    """Return the checksum of a set; that of its file entry's own checksum field is left out."""
    total = 0
    for byte in raw[:2] + raw[4:]:
        total = ((total << 15 | total >> 1) + byte) & 0xFFFF
    return total


def entry_attrs(entry: FileEntry, ino: int, cluster_size: int, utc_offset: int) -> Attrs:
    """Return what an entry says of its file. The time of a change of attributes is not preserved: it is that
    of modification. `utc_offset` is for times without a zone, in minutes. Raises Corrupt for a size that
    no file can have."""
    modified = _time(entry.modified, utc_offset)
    mode = stat.S_IFDIR | 0o755 if entry.attributes & DIRECTORY else stat.S_IFREG | 0o644
    allocated = -(-entry.size // cluster_size) * cluster_size
    times = (
        _time(entry.accessed, utc_offset),
        modified,
        modified,
        _time(entry.created, utc_offset),
    )
    return checked_attrs((ino, mode, 1, 0, 0, entry.size, allocated, 0, *times))


def _time(value: tuple[int, int, int], utc_offset: int) -> int:
    stamp, centiseconds, zone = value
    if zone & _ZONE_VALID:
        # Seven bits with a sign: quarters of an hour.
        utc_offset = 15 * ((zone & 0x7F ^ 0x40) - 0x40)
    return decode_time(stamp >> 16, stamp & 0xFFFF, centiseconds, utc_offset)


def _name(raw: bytes, parts: int, units: int) -> str:
    start = 2 * ENTRY_SIZE
    pieces = [
        raw[at + 2 : at + ENTRY_SIZE] for at in range(start, start + parts * ENTRY_SIZE, ENTRY_SIZE)
    ]
    return from_utf16(b"".join(pieces)[: 2 * units])
