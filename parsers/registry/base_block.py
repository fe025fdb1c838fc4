"""The first block of a hive."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.layout import Field, Layout

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

MAGIC = b"regf"

BASE_BLOCK = Layout(
    "base block",
    Field("magic", "4s", at=0x00, note="regf"),
    Field(
        "primary_sequence",
        "I",
        at=0x04,
        note="equal to the secondary one unless a write was cut off",
    ),
    Field("secondary_sequence", "I", at=0x08),
    Field("written", "Q", at=0x0C, note="FILETIME: 100 ns since 1601"),
    Field("major", "I", at=0x14, note="1"),
    Field("minor", "I", at=0x18),
    Field("type", "I", at=0x1C, note="0: a hive"),
    Field("format", "I", at=0x20, note="1: direct memory load"),
    Field("root", "I", at=0x24, note="root cell offset, from the end of the base block"),
    Field("bins_size", "I", at=0x28, note="bytes of all hive bins"),
    Field("clustering", "I", at=0x2C),
    Field("file_name", "64s", at=0x30, note="UTF-16LE, the end of a path"),
    Field("reserved", "396x", at=0x70, note="GUIDs and flags of later versions"),
    Field("checksum", "I", at=0x1FC, note="XOR of the 127 words before it"),
    size=512,
    source=(
        "reverse engineered: Windows registry file format specification (Maxim Suhanov), Base block"
    ),
)

BINS_START = 4096
"""Bytes: where the hive bins begin, and where the offsets of cells count from."""

BIN_UNIT = 4096

LARGEST_BINS = 1 << 31
"""Bytes of bins: the top bit of an offset distinguishes volatile cells from stable ones."""

PRIMARY_FILE = 0
DIRECT_MEMORY_LOAD = 1


@dataclass(frozen=True, slots=True)
class BaseBlock:
    """What a hive's first block says."""

    primary_sequence: int
    secondary_sequence: int
    written: int
    """When it was written last, as a FILETIME."""
    version: tuple[int, int]
    root: int
    """Offset of the root key's cell, from BINS_START."""
    bins_size: int
    """Bytes in all bins."""
    file_name: str
    """The end of the path it had on the guest."""

    @property
    def is_dirty(self) -> bool:
        """Say whether a write was under way: the last changes are in its transaction logs."""
        return self.primary_sequence != self.secondary_sequence


def decode_base_block(data: Buffer) -> BaseBlock:
    """Decode a base block.

    Raises NotRecognised for another kind of file, Corrupt, Unsupported for a version that is not known.
    """
    if data[:4] != MAGIC:
        raise NotRecognised("not a registry hive: no regf at its start")
    fields = BASE_BLOCK.parse(data)
    checksum = checksum_of(data)
    if fields.checksum != checksum:
        raise Corrupt("checksum of a base block", 508, expected=checksum, actual=fields.checksum)
    if fields.major != 1 or not 1 <= fields.minor <= 6:
        raise Unsupported(f"registry hive version {fields.major}.{fields.minor}")
    if fields.type != PRIMARY_FILE or fields.format != DIRECT_MEMORY_LOAD:
        raise Unsupported(f"registry file of type {fields.type}, format {fields.format}")
    if not 0 < fields.bins_size < LARGEST_BINS or fields.bins_size % BIN_UNIT:
        raise Corrupt("size of hive bins", 40, actual=fields.bins_size)
    return BaseBlock(
        fields.primary_sequence,
        fields.secondary_sequence,
        fields.written,
        (fields.major, fields.minor),
        fields.root,
        fields.bins_size,
        fields.file_name.decode("utf-16-le", "replace").partition("\0")[0],
    )


def checksum_of(data: Buffer) -> int:
    """Return the checksum that belongs to a base block: its first 127 words, XORed."""
    total = 0
    for word in struct.unpack_from("<127I", data):
        total ^= word
    # Two values are kept out of use.
    return {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)
