"""Security descriptors in their self-relative form: who owns a file, and who may do what.

Source: MS-DTYP 2.4.2 (SID), 2.4.4 (ACE), 2.4.5 (ACL), 2.4.6 (SECURITY_DESCRIPTOR).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage

DESCRIPTOR = Layout(
    "security descriptor",
    Field("revision", "B", at=0x00),
    Field("pad", "1x", at=0x01, note="Sbz1"),
    Field("control", "H", at=0x02, note="SE_...: which parts it has"),
    Field(
        "owner",
        "I",
        at=0x04,
        note="OffsetOwner: from the start of the descriptor, as all four; 0: none",
    ),
    Field("group", "I", at=0x08, note="OffsetGroup"),
    Field("sacl", "I", at=0x0C, note="OffsetSacl"),
    Field("dacl", "I", at=0x10, note="OffsetDacl"),
    size=20,
    source="[MS-DTYP] 2.4.6 SECURITY_DESCRIPTOR, self-relative",
)

ACL = Layout(
    "access control list",
    Field("revision", "B", at=0x00),
    Field("pad", "1x", at=0x01, note="Sbz1"),
    Field("size", "H", at=0x02, note="AclSize: bytes with the entries"),
    Field("count", "H", at=0x04, note="AceCount"),
    Field("pad_2", "2x", at=0x06, note="Sbz2"),
    size=8,
    source="[MS-DTYP] 2.4.5 ACL",
)

ACE = Layout(
    "access control entry",
    Field("type", "B", at=0x00),
    Field("flags", "B", at=0x01),
    Field("size", "H", at=0x02, note="AceSize: bytes of the entry"),
    Field("mask", "I", at=0x04, note="rights ([MS-DTYP] 2.4.3); a SID follows"),
    size=8,
    source="[MS-DTYP] 2.4.4.1 ACE_HEADER and 2.4.4.2 ACCESS_ALLOWED_ACE",
)

MAX_SIZE = 128 << 10
"""Bytes: two lists, which may have 64 KiB each, and two SIDs would be a little more; Windows stops at 64 KiB."""

REVISION = 1
DACL_PRESENT = 0x0004
SELF_RELATIVE = 0x8000

ALLOWED = 0
DENIED = 1
INHERIT_ONLY = 0x08

MOST_SUBAUTHORITIES = 15

_descriptor = DESCRIPTOR.picker("revision", "control", "owner", "group", "dacl").unpack_from
_acl = ACL.picker("size", "count").unpack_from
_ace = ACE.picker("type", "flags", "size", "mask").unpack_from


class Sid(NamedTuple):
    """A user or a group."""

    authority: int
    parts: tuple[int, ...]

    def __str__(self) -> str:
        return "-".join(["S-1", str(self.authority), *map(str, self.parts)])


class Ace(NamedTuple):
    """An entry of an access control list that allows or denies."""

    allows: bool
    mask: int
    sid: Sid


class Descriptor(NamedTuple):
    """What of a security descriptor decides about owner and mode."""

    owner: Sid | None
    group: Sid | None
    dacl: tuple[Ace, ...] | None
    """The entries that hold for the file itself, in order; None: there is no list, all is allowed."""


def decode_descriptor(value: bytes) -> Descriptor:
    """Decode a self-relative security descriptor. Raises Corrupt."""
    if len(value) < DESCRIPTOR.size:
        raise Corrupt(Damage.SIZE_OF_SECURITY_DESCRIPTOR, actual=len(value))
    revision, control, owner, group, dacl = _descriptor(value)
    if revision != REVISION or not control & SELF_RELATIVE:
        raise Corrupt(Damage.REVISION_OF_SECURITY_DESCRIPTOR, expected=REVISION, actual=revision)
    entries = None
    if control & DACL_PRESENT and dacl:
        entries = _decode_acl(value, dacl)
    return Descriptor(
        decode_sid(value, owner) if owner else None,
        decode_sid(value, group) if group else None,
        entries,
    )


def decode_sid(data: bytes, offset: int) -> Sid:
    """Decode the SID at an offset. Raises Corrupt."""
    head = data[offset : offset + 8]
    count = head[1] if len(head) == 8 else 0
    end = offset + 8 + 4 * count
    if len(head) < 8 or head[0] != REVISION or count > MOST_SUBAUTHORITIES or end > len(data):
        raise Corrupt(Damage.SID_IN_SECURITY_DESCRIPTOR, offset, actual=head.hex())
    parts = struct.unpack_from(f"<{count}I", data, offset + 8)
    return Sid(int.from_bytes(head[2:], "big"), parts)


def _decode_acl(data: bytes, offset: int) -> tuple[Ace, ...]:
    if offset + ACL.size > len(data):
        raise Corrupt(Damage.ACCESS_CONTROL_LIST_OUTSIDE_DESCRIPTOR, offset)
    size, count = _acl(data, offset)
    end = offset + size
    if size < ACL.size or end > len(data):
        raise Corrupt(Damage.SIZE_OF_ACCESS_CONTROL_LIST, offset, actual=size)
    entries: list[Ace] = []
    position = offset + ACL.size
    for _ in range(count):
        if position + ACE.size > end:
            raise Corrupt(Damage.ACCESS_CONTROL_ENTRY_OUTSIDE_LIST, position)
        kind, flags, length, mask = _ace(data, position)
        if length < ACE.size or position + length > end:
            raise Corrupt(Damage.SIZE_OF_ACCESS_CONTROL_ENTRY, position, actual=length)
        if kind in (ALLOWED, DENIED) and not flags & INHERIT_ONLY:
            sid = decode_sid(data[: position + length], position + ACE.size)
            entries.append(Ace(kind == ALLOWED, mask, sid))
        position += length
    return tuple(entries)
