"""The text that describes a virtual disk: its extents, its parent, its disk data base.

Source: VMware, "Virtual Disk Format 5.0", section "The Descriptor File". Where the document is silent
(the encoding key, names with spaces) the form that VMware's products write is taken.

Strategy: a line that is neither blank, a comment, `key = value` nor an extent is an error, not skipped: it
may be what is left of an extent, and a disk without one of its extents is shifted from there on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.reader import Buffer
from vmount.parsers.vmdk.text import decode_text, excerpt, split_lines

SECTOR = 512
"""Bytes in the sectors that every VMDK structure counts in."""

MAX_DESCRIPTOR = 4 << 20
"""Bytes. 62 TiB in extents of 2 GiB are 31,744 lines of some hundred bytes."""

MAX_EXTENTS = 1 << 16
"""Twice what the largest disk of 2 GiB extents has."""

MAX_SECTORS = (1 << 62) // SECTOR
"""Sectors of a disk, so that sums of byte offsets stay in the 64 bits of off_t."""

NO_PARENT = 0xFFFFFFFF
"""The parentCID of a disk without a parent."""

MAX_VERSION = 4
"""Versions from 2 on add keys (change tracking, I/O filters, encryption) and leave the extents as they are."""

_PROBE = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:[ \t]*(?:#[^\n]*)?\r?\n)*"
    rb"(?:[ \t]*#[ \t]*Disk[ \t]+DescriptorFile|[ \t]*version[ \t]*=[ \t]*\d)",
    re.IGNORECASE,
)
_KEY = re.compile(r"([\w.:-]+)[ \t]*=[ \t]*(.*)", re.DOTALL)
_ACCESS = re.compile(r"(?:RW|RDONLY|NOACCESS)(?![\w.:=-])", re.IGNORECASE)
_EXTENT = re.compile(
    r'(RW|RDONLY|NOACCESS)\s+(\d{1,20})\s+([A-Z]\w*)(?:\s+"(.*)"(?:\s+(\d{1,20}))?)?(?:\s+(\S.*))?',
    re.IGNORECASE | re.DOTALL,
)
_DEVICE = re.compile(r"\\\\\.\\|/dev/|/vmfs/devices/", re.IGNORECASE)


class Access(Enum):
    """What the guest may do with an extent."""

    READ_WRITE = "RW"
    READ_ONLY = "RDONLY"
    NONE = "NOACCESS"


class ExtentLine(NamedTuple):
    """One extent as its line has it."""

    access: Access
    sectors: int
    """Length in sectors of 512 bytes."""
    kind: str
    """FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE, SESPARSE, VMFSRDM, VMFSRAW, or a word not known here."""
    name: str | None
    """The file as the line names it, None where it names none (ZERO)."""
    offset: int
    """The sector of the file at which a flat extent starts."""
    is_device: bool
    """The name is a device of the host that wrote the descriptor."""


@dataclass(frozen=True)
class Descriptor:
    """A descriptor's contents."""

    version: int
    encoding: str
    """As the descriptor names it, "" if it does not."""
    cid: int | None
    """Content identifier: changes when the disk is first written to after it was opened."""
    parent_cid: int | None
    """What the parent's `cid` must be; None for a disk without a parent."""
    create_type: str
    parent_hint: str | None
    """The parent's file, as it stands."""
    extents: tuple[ExtentLine, ...]
    ddb: Mapping[str, str]
    """The disk data base, keys without their "ddb." ("adapterType", "geometry.sectors", "uuid")."""
    keys: Mapping[str, str]
    """All other keys as they are spelt."""
    doubts: tuple[str, ...] = field(default=())
    """What may be wrong with the text though it can be read, one sentence each."""

    @property
    def sectors(self) -> int:
        """Length of the disk."""
        return sum(extent.sectors for extent in self.extents)


_CID_DIGITS = 8
"""QEMU rewrites a CID in place, which has one to eight digits: where it becomes shorter, as many
bytes of the old end of the text stand behind the zero byte that ends the new one."""


def is_descriptor(head: Buffer) -> bool:
    """Tell from the first bytes of a file (a sector is enough) whether it is descriptor text."""
    return _PROBE.match(bytes(head)) is not None


def parse_descriptor(raw: Buffer) -> Descriptor:
    """Decode a descriptor: a whole file, or the sectors set aside for it in a sparse extent.

    Raises NotRecognised if it is no descriptor at all, Corrupt where it is damaged or cut off,
    Unsupported for an unknown version or encoding and for an encrypted disk.
    """
    if len(raw) > MAX_DESCRIPTOR:
        raise Corrupt(
            "descriptor too long", expected=f"at most {MAX_DESCRIPTOR} bytes", actual=len(raw)
        )
    data = bytes(raw)
    if not is_descriptor(data):
        raise NotRecognised("not a VMDK descriptor")
    end = data.find(0)
    if end >= 0:
        rest = data[end:].strip(b"\0")
        if len(rest) > _CID_DIGITS or not data[:end].endswith(rest):
            raise Corrupt("zero byte within the descriptor", end)
        data = data[:end]
    text, encoding = decode_text(data, "encoding")
    values, extents = _lines(text)
    return _assemble(text, encoding, values, extents)


class _Value(NamedTuple):
    key: str
    value: str


def _lines(text: str) -> tuple[dict[str, _Value], list[ExtentLine]]:
    values: dict[str, _Value] = {}
    extents: list[ExtentLine] = []
    for number, line in enumerate(split_lines(text), 1):
        if not line or line.startswith("#"):
            continue
        if _ACCESS.match(line):
            extents.append(_extent(line, number))
            if len(extents) > MAX_EXTENTS:
                raise Corrupt("too many extents", expected=f"at most {MAX_EXTENTS}")
            continue
        matched = _KEY.fullmatch(line)
        if matched is None:
            raise Corrupt(
                f"line {number} of the descriptor is not a key or an extent",
                actual=excerpt(line),
            )
        key, value = matched[1], _unquote(matched[2], number)
        known = values.setdefault(key.casefold(), _Value(key, value))
        if known.value != value:
            raise Corrupt(
                f"line {number} of the descriptor repeats {key}",
                expected=known.value,
                actual=value,
            )
    return values, extents


def _extent(line: str, number: int) -> ExtentLine:
    matched = _EXTENT.fullmatch(line)
    if matched is None:
        raise Corrupt(
            f"extent on line {number} of the descriptor cannot be read", actual=excerpt(line)
        )
    access, sectors, kind, name, offset, rest = matched.groups()
    kind = kind.upper()
    is_device = name is not None and _DEVICE.match(name) is not None
    if rest is not None and not is_device:
        raise Corrupt(
            f"extent on line {number} of the descriptor has trailing text", actual=excerpt(rest)
        )
    if name is None and kind != "ZERO":
        raise Corrupt(
            f"extent on line {number} of the descriptor names no file", actual=excerpt(line)
        )
    if name == "":
        raise Corrupt(f"extent on line {number} of the descriptor has an empty name")
    if kind == "FLAT" and offset is None:
        raise Corrupt(
            f"flat extent on line {number} of the descriptor has no start", actual=excerpt(line)
        )
    if int(sectors) > MAX_SECTORS or int(offset or 0) > MAX_SECTORS:
        raise Corrupt(
            f"extent on line {number} of the descriptor is too large", actual=excerpt(line)
        )
    return ExtentLine(Access(access.upper()), int(sectors), kind, name, int(offset or 0), is_device)


def _unquote(value: str, number: int) -> str:
    if not value.startswith('"'):
        return value
    if len(value) < 2 or not value.endswith('"'):
        raise Corrupt(f"quote not closed on line {number} of the descriptor", actual=excerpt(value))
    return value[1:-1]


def _assemble(
    text: str, encoding: str, values: dict[str, _Value], extents: list[ExtentLine]
) -> Descriptor:
    def get(key: str) -> str | None:
        found = values.get(key.casefold())
        return None if found is None else found.value

    ddb = {v.key[4:]: v.value for k, v in values.items() if k.startswith("ddb.")}
    keys = {v.key: v.value for k, v in values.items() if not k.startswith("ddb.")}
    _refuse_encrypted(values)
    version = _number(get("version"), "version", 10)
    if version is not None and not 1 <= version <= MAX_VERSION:
        raise Unsupported(f"descriptor version {version}")
    create_type = get("createType")
    if create_type is None:
        raise Corrupt("descriptor without createType: cut off or damaged")
    if not extents:
        raise Corrupt("descriptor without extents: cut off or damaged")
    if sum(extent.sectors for extent in extents) > MAX_SECTORS:
        raise Corrupt("extents too large", expected=f"at most {MAX_SECTORS} sectors")
    parent_cid = _number(get("parentCID"), "parentCID", 16)
    return Descriptor(
        version=1 if version is None else version,
        encoding=encoding,
        cid=_number(get("CID"), "CID", 16),
        parent_cid=None if parent_cid == NO_PARENT else parent_cid,
        create_type=create_type,
        parent_hint=get("parentFileNameHint") or None,
        extents=tuple(extents),
        ddb=MappingProxyType(ddb),
        keys=MappingProxyType(keys),
        doubts=_doubts(text, ddb),
    )


def _doubts(text: str, ddb: dict[str, str]) -> tuple[str, ...]:
    """Look for a cut within the list of extents: the disk data base that follows it is missing."""
    if ddb:
        return ()
    last = _EXTENT.fullmatch(split_lines(text)[-1])
    if last is not None and last[5] is not None and int(last[5]) > 0:
        raise Corrupt("descriptor ends within a number: cut off", actual=excerpt(last[0]))
    return ("the descriptor has no disk data base: if it was cut off, extents may be missing",)


def _refuse_encrypted(values: dict[str, _Value]) -> None:
    filters = values.get("ddb.iofilters")
    if filters is not None and "vmcrypt" in filters.value.casefold():
        raise Unsupported("encrypted disk (vmwarevmcrypt)")
    for key, value in values.items():
        if key.removeprefix("ddb.").startswith(("encryption", "keysafe")) and value.value:
            raise Unsupported("encrypted disk", remedy=f"its descriptor has {value.key}")


def _number(value: str | None, name: str, base: int) -> int | None:
    if value is None:
        return None
    digits = r"[0-9a-fA-F]{1,8}" if base == 16 else r"\d{1,9}"
    if not re.fullmatch(digits, value):
        raise Corrupt(f"{name} in the descriptor is not a number", actual=excerpt(value))
    return int(value, base)
