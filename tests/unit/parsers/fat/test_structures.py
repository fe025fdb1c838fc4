"""Decoders of FAT's structures on bytes with known values."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.fat.boot import BOOT_SECTOR_16, BOOT_SECTOR_32, decode_boot
from vmount.parsers.fat.directory import decode_directory
from vmount.parsers.fat.entry import SHORT_ENTRY
from vmount.parsers.fat.long_name import LONG_ENTRY
from vmount.parsers.fat.names import fold, short_checksum, short_name
from vmount.parsers.fat.timestamp import decode_time
from vmount.parsers.model import Run
from vmount.parsers.wtf8 import from_wtf8, to_wtf8


def boot_16(sectors: int, **changes: object) -> bytes:
    fields: dict[str, object] = {
        "jump": b"\xeb\x3c\x90",
        "oem_name": b"MSDOS5.0",
        "bytes_per_sector": 512,
        "sectors_per_cluster": 1,
        "reserved_sectors": 1,
        "fats": 2,
        "root_entries": 512,
        "sectors_16": sectors if sectors < 65536 else 0,
        "sectors_32": sectors if sectors >= 65536 else 0,
        "media": 0xF8,
        "sectors_per_fat_16": 256,
        "signature": b"\x55\xaa",
        "label": b"",
        "type_name": b"",
        "boot_code": b"",
    }
    fields |= changes
    for name, size in (("label", 11), ("type_name", 8), ("boot_code", 448)):
        value = fields[name]
        assert isinstance(value, bytes)
        fields[name] = value.ljust(size, b" ")
    return BOOT_SECTOR_16.build(**fields)


@pytest.mark.parametrize(
    ("clusters", "kind"),
    [(1, "FAT12"), (4084, "FAT12"), (4085, "FAT16"), (65524, "FAT16")],
)
def test_type_by_number_of_clusters(clusters: int, kind: str) -> None:
    boot = decode_boot(boot_16(1 + 512 + 32 + clusters))
    assert (boot.kind.name, boot.clusters) == (kind, clusters)
    assert boot.data_offset == (1 + 512 + 32) * 512


def test_too_many_clusters_for_fat16() -> None:
    with pytest.raises(Corrupt, match="FAT16"):
        decode_boot(boot_16(1 + 512 + 32 + 65525))


def test_clusters_that_the_fat_has_no_entry_for() -> None:
    boot = decode_boot(boot_16(60_000, sectors_per_fat_16=20))
    assert boot.clusters == 20 * 256 - 2


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": b"\0\0"},
        {"jump": b"\x33\xc0\x8e"},
        {"oem_name": b"NTFS    "},
        {"bytes_per_sector": 0},
        {"bytes_per_sector": 8192},
        {"bytes_per_sector": 513},
        {"sectors_per_cluster": 0},
        {"sectors_per_cluster": 3},
        {"reserved_sectors": 0},
        {"fats": 0},
        {"fats": 5},
        {"media": 0x80},
        {"sectors_16": 0},
    ],
)
def test_what_is_not_fat(changes: dict[str, object]) -> None:
    with pytest.raises(NotRecognised):
        decode_boot(boot_16(5000, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"bytes_per_sector": 4096, "sectors_per_cluster": 128},
        {"root_entries": 0},
        {"sectors_per_fat_16": 60_000},
        {"reserved_sectors": 60_000},
    ],
)
def test_fat_that_makes_no_sense(changes: dict[str, object]) -> None:
    with pytest.raises(Corrupt):
        decode_boot(boot_16(5000, **changes))


@pytest.mark.requirement("R22")
@given(st.binary(min_size=512, max_size=512))
def test_any_bytes_for_a_boot_sector(data: bytes) -> None:
    for sector in (data, data[:510] + b"\x55\xaa", boot_16(9000)[:13] + data[13:510] + b"\x55\xaa"):
        try:
            boot = decode_boot(sector)
        except (NotRecognised, Corrupt):
            continue
        assert boot.clusters > 0
        assert boot.data_offset + boot.data_size <= boot.size


def test_fat32_fields() -> None:
    assert BOOT_SECTOR_16.size == BOOT_SECTOR_32.size == 512
    assert BOOT_SECTOR_32.offset("root_cluster") == 44
    assert BOOT_SECTOR_32.offset("serial") == 67
    assert BOOT_SECTOR_16.offset("serial") == 39


@pytest.mark.parametrize(
    ("date", "time", "hundredths", "expected"),
    [
        ((1980, 1, 1), (0, 0, 0), 0, datetime.datetime(1980, 1, 1)),
        ((2107, 12, 31), (23, 59, 58), 199, datetime.datetime(2107, 12, 31, 23, 59, 59, 990_000)),
        ((2000, 2, 29), (12, 30, 30), 0, datetime.datetime(2000, 2, 29, 12, 30, 30)),
        ((2001, 2, 29), (0, 0, 0), 0, None),
        ((1980, 0, 0), (0, 0, 0), 0, None),
        ((2000, 13, 1), (0, 0, 0), 0, None),
        ((2000, 1, 1), (24, 0, 0), 0, None),
        ((2000, 1, 1), (0, 60, 0), 0, None),
        ((2000, 1, 1), (0, 0, 60), 0, None),
    ],
)
def test_times(
    date: tuple[int, int, int],
    time: tuple[int, int, int],
    hundredths: int,
    expected: datetime.datetime | None,
) -> None:
    coded = (date[0] - 1980) << 9 | date[1] << 5 | date[2]
    found = decode_time(coded, time[0] << 11 | time[1] << 5 | time[2] // 2, hundredths)
    if expected is None:
        assert found == 0
    else:
        since = expected - datetime.datetime(1970, 1, 1)
        assert found == (since // datetime.timedelta(microseconds=1)) * 1000


@pytest.mark.parametrize(
    ("raw", "flags", "code_page", "name"),
    [
        (b"README  TXT", 0, "cp437", "README.TXT"),
        (b"README  TXT", 0x08, "cp437", "readme.TXT"),
        (b"README  TXT", 0x10, "cp437", "README.txt"),
        (b"README  TXT", 0x18, "cp437", "readme.txt"),
        (b"NOEXT      ", 0, "cp437", "NOEXT"),
        (b"A B     C  ", 0, "cp437", "A B.C"),
        (b"\x05BC        ", 0, "cp437", "\u03c3BC"),
        (b"\x9aBER       ", 0x08, "cp437", "über"),
        (b"\x05\xb1        ", 0, "cp932", "\u87bb"),
        (b"\x81X         ", 0, "cp1252", "\udc81X"),
    ],
)
def test_short_names(raw: bytes, flags: int, code_page: str, name: str) -> None:
    assert short_name(raw.ljust(11), flags, code_page) == name


def test_folding_keeps_what_has_no_upper_case_of_one_character() -> None:
    assert fold("Straße ﬁ ünï 😀") == "STRAßE ﬁ ÜNÏ 😀"


@pytest.mark.requirement("R17")
@given(st.text(st.characters(), max_size=20), st.lists(st.integers(0xD800, 0xDFFF), max_size=3))
def test_names_round_trip(text: str, lone: list[int]) -> None:
    units = (text + "".join(map(chr, lone))).encode("utf-16-le", "surrogatepass")
    name = units.decode("utf-16-le", "surrogatepass")
    assert from_wtf8(to_wtf8(name)) == name


@pytest.mark.requirement("R17")
def test_what_is_no_name() -> None:
    assert from_wtf8(b"\xff") is None
    assert from_wtf8(b"\xed\xa0\xbd\xed\xb8\x80") is None


SHORT = b"LONGNA~1TXT"


def short(name: bytes = SHORT, attributes: int = 0x20) -> bytes:
    return SHORT_ENTRY.build(name=name, attributes=attributes)


def long(name: str, checksum: int | None = None, short_raw: bytes = SHORT) -> list[bytes]:
    """Return the long entries of a name, in the order of the disk."""
    units = name.encode("utf-16-le", "surrogatepass")
    if len(units) % 26:
        units += b"\0\0"
    units += b"\xff" * (-len(units) % 26)
    count = len(units) // 26
    entries = []
    for order in range(count, 0, -1):
        part = units[(order - 1) * 26 : order * 26]
        entries.append(
            LONG_ENTRY.build(
                order=order | (0x40 if order == count else 0),
                name1=part[:10],
                attributes=0x0F,
                checksum=short_checksum(short_raw) if checksum is None else checksum,
                name2=part[10:22],
                name3=part[22:],
            )
        )
    return entries


def names(*entries: bytes) -> list[str]:
    data = b"".join(entries)
    return [file.name for file in decode_directory(data, [Run(0, len(data), 4096)], "cp437").files]


@pytest.mark.requirement("R17")
@pytest.mark.parametrize(
    "name", ["a", "exactly 13 ch", "fourteen chars", "y" * 255, "😀 emoji", "low \udc12", "\ud83d"]
)
def test_long_names(name: str) -> None:
    assert names(*long(name), short()) == [name]


def test_orphans_are_ignored() -> None:
    three = long("a name that takes three long entries")
    other = long("other")
    deleted = b"\xe5" + short()[1:]
    assert names(*three, short()) == ["a name that takes three long entries"]
    for entries in (
        three[1:],
        three[:2],
        [three[0], three[2]],
        [three[1], three[0], three[2]],
        [*three, deleted],
        [*three, short(b"LABEL      ", 0x08)],
        [*three, three[2]],
        [*three[:2], b"\xe5" + three[2][1:]],
        long("wrong checksum", checksum=0x77 ^ short_checksum(SHORT)),
        [b"\x40" + three[0][1:], *three[1:]],
        [b"\x7f" + three[0][1:], *three[1:]],
    ):
        assert names(*entries, short()) == ["LONGNA~1.TXT"]
    assert names(*three, *other, short()) == ["other"]
    assert names(*long("z" * 256), short()) == ["LONGNA~1.TXT"]


def test_what_is_not_listed() -> None:
    assert names(
        short(b".          ", 0x10),
        short(b"..         ", 0x10),
        short(b"LABEL      ", 0x08),
        b"\xe5" + short()[1:],
        short(b"SHOWN      "),
        bytes(32),
        short(b"AFTER END  "),
    ) == ["SHOWN"]


@pytest.mark.requirement("R22")
@given(st.binary(max_size=2000))
def test_any_bytes_for_a_directory(data: bytes) -> None:
    data = data[: len(data) // 32 * 32]
    assert len(names(data)) <= len(data) // 32
