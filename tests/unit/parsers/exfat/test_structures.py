"""Decoders of exFAT's structures on bytes with known values."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.exfat.boot import BOOT_SECTOR, decode_boot
from vmount.parsers.exfat.directory import decode_directory, file_number, place_of
from vmount.parsers.exfat.entry_set import (
    FILE_ENTRY,
    STREAM_ENTRY,
    decode_set,
    entry_attrs,
    set_checksum,
)
from vmount.parsers.exfat.upcase import Upcase, decode_upcase, table_checksum
from vmount.parsers.model import Run

BOOT = {
    "jump": b"\xeb\x76\x90",
    "name": b"EXFAT   ",
    "must_be_zero": bytes(53),
    "volume_length": 1 << 20,
    "fat_offset": 128,
    "fat_length": 1024,
    "heap_offset": 2048,
    "clusters": 100_000,
    "root_cluster": 5,
    "revision": 0x100,
    "sector_shift": 9,
    "cluster_shift": 3,
    "fats": 1,
    "boot_code": bytes(390),
    "signature": b"\x55\xaa",
}
MIDNIGHT_2000 = (20 << 9 | 1 << 5 | 1) << 16
NANOSECONDS_2000 = 946_684_800 * 10**9


def test_boot_sector() -> None:
    boot = decode_boot(BOOT_SECTOR.build(**BOOT))
    assert boot.cluster_size == 4096
    assert boot.heap_offset == 1 << 20
    assert boot.size == 512 << 20
    assert BOOT_SECTOR.size == 512


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": b"NTFS    "}, NotRecognised),
        ({"signature": b"\0\0"}, NotRecognised),
        ({"must_be_zero": bytes(52) + b"\1"}, NotRecognised),
        ({"revision": 0x200}, Unsupported),
        ({"fats": 2}, Unsupported),
        ({"fats": 0}, Corrupt),
        ({"sector_shift": 8}, Corrupt),
        ({"sector_shift": 13}, Corrupt),
        ({"cluster_shift": 17}, Corrupt),
        ({"clusters": 0xFFFF_FFFF}, Corrupt),
        ({"clusters": 200_000}, Corrupt),
        ({"fat_offset": 10}, Corrupt),
        ({"fat_length": 2000}, Corrupt),
        ({"fat_length": 500}, Corrupt),
        ({"root_cluster": 1}, Corrupt),
        ({"root_cluster": 100_002}, Corrupt),
        ({"volume_length": 1 << 60}, Unsupported),
    ],
)
def test_boot_sectors_that_are_refused(changes: dict[str, object], error: type[ParseError]) -> None:
    with pytest.raises(error):
        decode_boot(BOOT_SECTOR.build(**BOOT | changes))


def test_texfat_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="TexFAT"):
        decode_boot(BOOT_SECTOR.build(**BOOT | {"fats": 2}))


def entry_set(name: str = "name", extra: bytes = b"", **changes: object) -> bytes:
    """Return the set of entries of a file."""
    units = name.encode("utf-16-le", "surrogatepass")
    parts = [b"\xc1\0" + units[at : at + 30].ljust(30, b"\0") for at in range(0, len(units), 30)]
    fields: dict[str, object] = {
        "flags": 1,
        "name_units": len(units) // 2,
        "name_hash": Upcase(None).name_hash(Upcase(None).fold(name)),
        "first_cluster": 7,
        "size": 1000,
        "valid": 900,
    }
    file_fields: dict[str, object] = {
        "type": 0x85,
        "secondaries": 1 + len(parts) + len(extra) // 32,
        "attributes": 0x20,
        "created": MIDNIGHT_2000,
        "modified": MIDNIGHT_2000,
        "accessed": MIDNIGHT_2000,
    }
    for key, value in changes.items():
        (file_fields if key in {field.name for field in FILE_ENTRY.fields} else fields)[key] = value
    stream = STREAM_ENTRY.build(type=0xC0, **fields)
    raw = FILE_ENTRY.build(**file_fields) + stream + b"".join(parts) + extra
    return raw[:2] + struct.pack("<H", set_checksum(raw)) + raw[4:]


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("name", ["a", "x" * 15, "x" * 16, "x" * 255, "😀", "\udc12", "x\ud83d"])
def test_names(name: str) -> None:
    entry = decode_set(b"before.." + entry_set(name), 8)
    assert entry.name == name
    assert (entry.size, entry.valid, entry.first_cluster) == (1000, 900, 7)


@pytest.mark.parametrize(
    ("zone", "utc_offset", "hours"),
    [(0x80, 300, 0), (0x80 | 4, 0, -1), (0x80 | 0x80 - 20, 0, 5), (0, 120, -2), (0, 0, 0)],
)
def test_times_honour_their_zone(zone: int, utc_offset: int, hours: int) -> None:
    entry = decode_set(
        entry_set(
            modified_zone=zone, accessed_zone=0x80, modified_centiseconds=150, created_zone=0x80
        )
    )
    attrs = entry_attrs(entry, 9, 4096, utc_offset)
    assert attrs.mtime == NANOSECONDS_2000 + hours * 3600 * 10**9 + 1_500_000_000
    assert attrs.atime == attrs.btime == NANOSECONDS_2000
    assert attrs.allocated == 4096


def test_benign_secondary_entries_are_ignored() -> None:
    extra = b"\xe0" + bytes(31)
    assert decode_set(entry_set(extra=extra * 3)).entries == 6
    with pytest.raises(Unsupported, match="0xc2"):
        decode_set(entry_set(extra=b"\xc2" + bytes(31)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"secondaries": 1}, "secondary"),
        ({"secondaries": 9}, "ends within"),
        ({"name_units": 0}, "length of a name"),
        ({"name_units": 99}, "length of a name"),
        ({"valid": 1001}, "valid data"),
    ],
)
def test_sets_that_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(Corrupt, match=message):
        decode_set(entry_set(**changes))  # type: ignore[arg-type]


def test_checksum_of_a_set() -> None:
    raw = entry_set()
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 0x10
        with pytest.raises(ParseError):
            decode_set(changed)


def names(data: bytes, *, is_root: bool = False) -> list[str]:
    directory = decode_directory(
        data, [Run(0, len(data), 4096)], Upcase(None), contiguous=False, is_root=is_root
    )
    return [file.name for file in directory.files]


def test_a_directory() -> None:
    deleted = bytes([0x05]) + entry_set("gone")[1:]
    volume_guid = b"\xa0" + bytes(31)
    data = entry_set("one") + deleted + volume_guid + entry_set("two") + bytes(32) + entry_set("no")
    # The stream and name entries of the deleted file are orphans.
    assert names(data) == ["one", "two"]
    for kind in (b"\x81", b"\x82", b"\x83"):
        assert names(kind + bytes(31) + data, is_root=True) == ["one", "two"]
        with pytest.raises(Corrupt, match="invalid"):
            names(kind + bytes(31) + data)
    with pytest.raises(Corrupt, match="invalid"):
        names(b"\x84" + bytes(31) + data, is_root=True)


def test_lookup_without_a_right_hash() -> None:
    data = entry_set("Right") + entry_set("Wrong", name_hash=1) + entry_set("x" * 40)
    directory = decode_directory(
        data, [Run(0, len(data), 4096)], Upcase(None), contiguous=True, is_root=False
    )
    for name in ("right", "RIGHT", "wrong", "Wrong", "X" * 40):
        found = directory.find(name)
        assert found is not None
        assert found.name.upper() == name.upper()
    assert directory.find("other") is None


@given(st.integers(0, (1 << 47) - 1), st.booleans())
def test_file_numbers(entry: int, contiguous: bool) -> None:
    ino = file_number(entry * 32, contiguous=contiguous)
    assert ino < 1 << 48
    assert place_of(ino) == (entry * 32, contiguous)


def test_upcase_table() -> None:
    units = [*range(ord("a")), *range(ord("A"), ord("Z") + 1), 0xFFFF, 0xFF - 0x7B, 0x178]
    table = struct.pack(f"<{len(units)}H", *units)
    upcase = decode_upcase(table, table_checksum(table))
    assert upcase.fold("azAZ{é\xff😀\udc12") == "AZAZ{é\u0178😀\udc12"
    with pytest.raises(Corrupt, match="checksum"):
        decode_upcase(table, 1)
    too_long = struct.pack("<4H", 0xFFFF, 0xFFFE, 0xFFFF, 0xFFFE)
    with pytest.raises(Corrupt, match="too many"):
        decode_upcase(too_long, table_checksum(too_long))


@pytest.mark.requirement("R22")
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    decode_upcase(data[:100], table_checksum(data[:100])).fold("aé😀\udc12")
    for raw in (data, b"\x85\x02" + data):
        with contextlib.suppress(ParseError):
            decode_set(raw)
        with contextlib.suppress(Corrupt):
            names(raw)
