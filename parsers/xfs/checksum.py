"""The checksum and the self-description that metadata of version 5 bears.

Every structure has a CRC-32C of itself, kept little-endian in a field that counts as zero, the place where
it was written, the file system's UUID and the inode that it belongs to.
Source: "XFS Algorithms & Data Structures", "Metadata Integrity" (Self Describing Metadata).
"""

from __future__ import annotations

import struct
import uuid
from typing import NamedTuple

import google_crc32c

from vmount.parsers.errors import Corrupt
from vmount.parsers.xfs.errors import Damage

BASIC_BLOCK = 512
"""Bytes of the unit in which structures know their places."""


class Seal(NamedTuple):
    """Where a kind of structure has its self-description."""

    crc_at: int
    place_at: int
    uuid_at: int
    owner_at: int


LONG_BTREE = Seal(64, 24, 40, 56)
DIRECTORY_DATA = Seal(4, 8, 24, 40)
DIRECTORY_INDEX = Seal(12, 16, 32, 48)
"""Of attribute leaves too."""
REMOTE = Seal(12, 40, 16, 32)
"""Of symbolic links and of attributes' values."""


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`."""
    value: int = google_crc32c.value(data)
    return value


def stored_and_computed(data: bytes, crc_at: int) -> tuple[int, int]:
    """Return the checksum that a structure has in it, and the one that it should have."""
    stored = int.from_bytes(data[crc_at : crc_at + 4], "little")
    return stored, crc32c(data[:crc_at] + bytes(4) + data[crc_at + 4 :])


def check_crc(data: bytes, crc_at: int, kind: str, where: int) -> None:
    """Raise Corrupt unless a structure's checksum is right."""
    stored, computed = stored_and_computed(data, crc_at)
    if stored != computed:
        raise Corrupt(Damage.CHECKSUM, where, of=kind, expected=computed, actual=stored)


def check_identity(
    data: bytes, seal: Seal, kind: str, where: int, volume_uuid: bytes, owner: int
) -> None:
    """Raise Corrupt unless a structure was written for `where` in this volume and for inode `owner`."""
    (place,) = struct.unpack_from(">Q", data, seal.place_at)
    if place != where // BASIC_BLOCK:
        raise Corrupt(Damage.OWN_PLACE, where, of=kind, expected=where, actual=place * BASIC_BLOCK)
    found = data[seal.uuid_at : seal.uuid_at + 16]
    if found != volume_uuid:
        raise Corrupt(
            Damage.UUID_OF_VOLUME,
            where,
            of=kind,
            expected=uuid.UUID(bytes=volume_uuid),
            actual=uuid.UUID(bytes=found),
        )
    (belongs,) = struct.unpack_from(">Q", data, seal.owner_at)
    if belongs != owner:
        raise Corrupt(Damage.INODE, where, of=kind, expected=owner, actual=belongs)
