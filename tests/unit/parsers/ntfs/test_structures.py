"""The decoders of NTFS's structures, each on its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import struct
from collections.abc import Callable

import pyfwnt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.layout import Layout
from vmount.parsers.model import Run
from vmount.parsers.ntfs.attribute import COMPRESSED_SIZE, NONRESIDENT, RESIDENT
from vmount.parsers.ntfs.attribute_list import LIST_ENTRY
from vmount.parsers.ntfs.boot import BOOT_SECTOR, decode_boot
from vmount.parsers.ntfs.compression import CompressionUnits
from vmount.parsers.ntfs.ea import EA_ENTRY, decode_eas, device_number
from vmount.parsers.ntfs.file_name import FILE_NAME_KEY
from vmount.parsers.ntfs.fixup import MULTI_SECTOR_HEADER, restore, restore_all
from vmount.parsers.ntfs.index import INDEX_BLOCK, INDEX_ENTRY, INDEX_HEADER
from vmount.parsers.ntfs.lznt1 import decode_lznt1
from vmount.parsers.ntfs.names import from_wtf8, to_wtf8
from vmount.parsers.ntfs.record import RECORD
from vmount.parsers.ntfs.reparse import decode_reparse
from vmount.parsers.ntfs.runlist import decode_runs
from vmount.parsers.ntfs.standard_information import STANDARD
from vmount.parsers.ntfs.volume import decode_volume_information
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.runs import RunList

LAYOUTS = [
    BOOT_SECTOR,
    COMPRESSED_SIZE,
    EA_ENTRY,
    FILE_NAME_KEY,
    INDEX_BLOCK,
    INDEX_ENTRY,
    INDEX_HEADER,
    LIST_ENTRY,
    MULTI_SECTOR_HEADER,
    NONRESIDENT,
    RECORD,
    RESIDENT,
    STANDARD,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_pickers_decode_what_layouts_do(layout: Layout) -> None:
    names = [field.name for field in layout.fields if not field.format.endswith("x")]
    picker = layout.picker(*names)
    for seed in range(50):
        data = random.Random(seed).randbytes(layout.size)
        parsed = layout.parse(data)
        assert list(picker.unpack_from(data)) == [parsed[name] for name in names]


def boot_sector(**fields: object) -> bytes:
    usual: dict[str, object] = {
        "oem_id": b"NTFS    ",
        "bytes_per_sector": 512,
        "sectors_per_cluster": 8,
        "total_sectors": 1 << 40,
        "mft_lcn": 4,
        "mirror_lcn": 5,
        "record_size_code": -10,
    }
    return BOOT_SECTOR.build(**(usual | fields))


@pytest.mark.parametrize(
    ("sector", "code", "size"),
    [
        (512, 1, 512),
        (512, 128, 65536),
        (512, 0xF8, 131072),
        (512, 0xF4, 2 << 20),
        (4096, 1, 4096),
        (4096, 0xF7, 2 << 20),
    ],
)
def test_cluster_sizes(sector: int, code: int, size: int) -> None:
    boot = decode_boot(boot_sector(bytes_per_sector=sector, sectors_per_cluster=code))
    assert boot.cluster_size == size


@pytest.mark.parametrize(("code", "size"), [(-10, 1024), (-12, 4096), (1, 4096)])
def test_record_sizes(code: int, size: int) -> None:
    assert decode_boot(boot_sector(record_size_code=code)).record_size == size


@pytest.mark.parametrize(
    "fields",
    [
        {"bytes_per_sector": 513},
        {"sectors_per_cluster": 0},
        {"sectors_per_cluster": 3},
        {"sectors_per_cluster": 0xF3},
        {"sectors_per_cluster": 0x81},
        {"record_size_code": 0},
        {"record_size_code": -128},
        {"record_size_code": 3},
        {"mft_lcn": 1 << 50},
        {"mirror_lcn": 0},
        {"total_sectors": 0},
        {"fats": 2},
    ],
)
def test_boot_sectors_that_make_no_sense(fields: dict[str, object]) -> None:
    with pytest.raises(Corrupt):
        decode_boot(boot_sector(**fields))


def test_other_boot_sectors() -> None:
    with pytest.raises(NotRecognised):
        decode_boot(boot_sector(oem_id=b"-FVE-FS-"))


def test_unknown_version() -> None:
    with pytest.raises(Unsupported, match=r"NTFS version 4\.0"):
        decode_volume_information(struct.pack("<QBBH", 0, 4, 0, 0))


utf16 = st.binary(max_size=40).map(lambda data: data[: len(data) & ~1])


@pytest.mark.requirement("R17")
@given(utf16)
def test_every_name_round_trips(units: bytes) -> None:
    assert from_wtf8(to_wtf8(units)) == units


@pytest.mark.requirement("R17")
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_proper_names_are_utf8(name: str) -> None:
    assert to_wtf8(name.encode("utf-16-le")) == name.encode()


@pytest.mark.requirement("R17")
def test_what_is_no_wtf8_is_no_name() -> None:
    assert from_wtf8(b"\xff") is None
    assert from_wtf8(b"\xed\xa0\xbd\xed\xb8\x80") is None, "a pair written as two"


def encode_runs(runs: list[tuple[int, int | None]], widen: int = 0) -> bytes:
    """Encode (length, LCN) pairs, each number `widen` bytes longer than it needs to be."""
    data, last = b"", 0
    for length, lcn in runs:
        size = min(8, length.bit_length() // 8 + 1 + widen)
        packed = length.to_bytes(size, "little", signed=True)
        delta = b""
        if lcn is not None:
            wide = min(8, (lcn - last).bit_length() // 8 + 1 + widen)
            delta = (lcn - last).to_bytes(wide, "little", signed=True)
            last = lcn
        data += bytes((len(delta) << 4 | len(packed),)) + packed + delta
    return data + b"\0"


CLUSTERS = 1 << 44

run_lists = st.lists(
    st.tuples(
        st.integers(1, 1 << 40),
        st.one_of(st.none(), st.integers(0, CLUSTERS - (1 << 40))),
    ),
    max_size=20,
)


@pytest.mark.requirement("R37")
@given(run_lists, st.integers(0, 3), st.integers(0, 1 << 40))
def test_run_lists(pairs: list[tuple[int, int | None]], widen: int, first: int) -> None:
    total = sum(length for length, _ in pairs)
    runs = decode_runs(encode_runs(pairs, widen), first, first + total, 4096, CLUSTERS)
    assert [
        (run.length // 4096, None if run.start is None else run.start // 4096) for run in runs
    ] == pairs
    assert all(a.offset + a.length == b.offset for a, b in itertools.pairwise(runs))
    for wrong in (total - 1, total + 1):
        with pytest.raises(Corrupt):
            decode_runs(encode_runs(pairs, widen), first, first + wrong, 4096, CLUSTERS)


@given(st.binary(max_size=60), st.integers(0, 1000))
def test_run_lists_of_garbage(data: bytes, clusters: int) -> None:
    try:
        runs = decode_runs(data, 0, clusters, 512, 1000)
    except Corrupt:
        return
    assert sum(run.length for run in runs) == clusters * 512
    assert all(run.start is None or 0 <= run.start <= 512_000 - run.length for run in runs)


@pytest.mark.parametrize("pairs", [[(10, 95)], [(5, 90), (5, -1)], [(101, 0)]])
def test_runs_outside_the_volume(pairs: list[tuple[int, int | None]]) -> None:
    with pytest.raises(Corrupt, match="outside the volume"):
        decode_runs(encode_runs(pairs), 0, sum(length for length, _ in pairs), 512, 100)


@given(st.integers(0, 320), st.integers(0, 320))
def test_ranges_over_runs(offset: int, length: int) -> None:
    data = bytes(range(256)) * 2
    runs = [Run(0, 64, 100), Run(64, 64, None), Run(128, 64, 0), Run(192, 128, 300)]
    whole = data[100:164] + bytes(64) + data[:64] + data[300:428]
    mapped = RunList.of(runs)
    if offset + length > len(whole):
        with pytest.raises(Corrupt):
            mapped.pieces(offset, length)
    else:
        found = run_sync(mapped.read(BytesReader(data), offset, length))
        assert bytes(found) == whole[offset : offset + length]


def protected(content: bytes, number: int, magic: bytes = b"FILE") -> bytes:
    """Return a record of 1024 bytes with fix-ups made."""
    record = bytearray(magic + struct.pack("<HH", 48, 3) + bytes(40) + bytes(6))
    record += content[len(record) : 1024]
    usn = struct.pack("<H", number)
    record[48:54] = usn + record[510:512] + record[1022:1024]
    record[510:512] = record[1022:1024] = usn
    return bytes(record)


@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 65535)), min_size=1))
def test_fixups_side_by_side_as_one_by_one(parts: list[tuple[bytes, int]]) -> None:
    records = [protected(seed * 128, number) for seed, number in parts]
    together = bytearray(b"".join(records))
    assert restore_all(together, 1024, b"FILE")
    alone = b""
    for record in records:
        one = bytearray(record)
        restore(one, b"FILE", 0)
        alone += one
    assert together == alone
    seed, _number = parts[-1]
    assert alone[-1024:][510:512] == (seed * 128)[510:512]


@pytest.mark.parametrize(
    "damage",
    [
        {0: b"BAAD"},
        {510: b"??"},
        {1022: b"??"},
        {4: b"\xff\xff", 510: b"??"},
        {4: b"\xff\xff", 48: b"??"},
        {6: b"\x02\0", 1022: b"??"},
    ],
)
def test_torn_records(damage: dict[int, bytes]) -> None:
    good = protected(bytes(range(256)) * 4, 7)
    bad = bytearray(good)
    for at, value in damage.items():
        bad[at : at + len(value)] = value
    both = bytearray(good + bad)
    before = bytes(both)
    assert not restore_all(both, 1024, b"FILE")
    assert both == before
    with pytest.raises(Corrupt):
        restore(bad, b"FILE", 0x1000)


@pytest.mark.parametrize(("at", "value"), [(4, b"\xff\xff"), (4, b"\x32\0"), (6, b"\x02\0")])
def test_fixups_are_found_where_they_always_are(at: int, value: bytes) -> None:
    good = bytearray(protected(bytes(range(256)) * 4, 7))
    bad = bytearray(good)
    bad[at : at + len(value)] = value
    if value == b"\x32\0":  # A place that can be is believed.
        with pytest.raises(Corrupt):
            restore(bad, b"FILE", 0)
        return
    assert restore(good, b"FILE", 0)
    assert not restore(bad, b"FILE", 0)
    assert bad[8:] == good[8:]


def block(payload: bytes, *, compressed: bool) -> bytes:
    return struct.pack("<H", (0xB000 if compressed else 0x3000) | len(payload) - 1) + payload


RAW = block(bytes(range(256)) * 16, compressed=False)
SHORT = block(b"\x00abc", compressed=True)
RUN_OF_A = block(b"\x02a" + struct.pack("<H", 4095 - 3), compressed=True)


def test_lznt1_blocks() -> None:
    assert decode_lznt1(RUN_OF_A, 4096) == b"a" * 4096
    assert decode_lznt1(RAW + RUN_OF_A, 8192) == bytes(range(256)) * 16 + b"a" * 4096
    assert decode_lznt1(RUN_OF_A + b"\0\0", 100) == b"a" * 100
    assert decode_lznt1(SHORT, 3) == b"abc"
    # MS-XCA: a block that is not the last stands for 4096 bytes.
    assert decode_lznt1(SHORT + RUN_OF_A, 8192) == b"abc".ljust(4096, b"\0") + b"a" * 4096
    assert decode_lznt1(SHORT + RUN_OF_A, 100) == b"abc".ljust(100, b"\0")


@pytest.mark.parametrize(
    ("stored", "length"),
    [
        (b"", 1),
        (b"\0\0", 1),
        (RAW[:-1], 4096),
        (RAW, 4097),
        (SHORT, 4),
        (SHORT + b"\0\0", 4096),
        (block(b"\x01\x05\x00", compressed=True), 3),
        (block(b"\x02a\x00", compressed=True), 3),
        (block(b"\x06a" + b"\xff\x0f" + b"\xff\x0f", compressed=True), 4096),
        (b"\x02\x80" + b"\0ab", 2),
        (b"\x02\x00" + b"abc", 3),
    ],
)
def test_lznt1_damage(stored: bytes, length: int) -> None:
    with pytest.raises(Corrupt):
        decode_lznt1(stored, length)


@given(st.binary(max_size=300), st.integers(1, 70_000))
def test_lznt1_garbage(stored: bytes, length: int) -> None:
    with contextlib.suppress(Corrupt):
        assert len(decode_lznt1(stored, length)) == length


def test_lznt1_library_keeps_what_is_relied_on() -> None:
    assert pyfwnt.lznt1_decompress(RUN_OF_A, 4096) == b"a" * 4096
    with pytest.raises(OSError, match="out of bounds"):
        pyfwnt.lznt1_decompress(block(b"\x06a\xff\x0f\xff\x0f", compressed=True), 4096)


def units(
    runs: list[tuple[int, int | None]], size: int, valid: int | None = None
) -> CompressionUnits:
    placed, offset = [], 0
    for length, start in runs:
        placed.append(Run(offset, length, start))
        offset += length
    return CompressionUnits(placed, size, size if valid is None else valid, 512, 4)


def test_compression_units() -> None:
    table = units([(8192, 0), (1024, 8192), (7168, None), (8192, None), (512, 40960)], 33_000)
    assert table.unit == 8192
    stored = run_sync(table.chunk(0))
    assert (stored.decode, stored.runs) == (None, (Run(0, 8192, 0),))
    packed = run_sync(table.chunk(1))
    assert packed.decode is not None
    assert packed.runs == (Run(0, 1024, 8192),)
    assert packed.decode(RUN_OF_A + RUN_OF_A, 8192) == b"a" * 8192
    with pytest.raises(Corrupt):
        packed.decode(RUN_OF_A, 8192)
    assert run_sync(table.chunk(2)).runs == (Run(0, 8192, None),)
    last = run_sync(table.chunk(3))
    assert last.decode is not None
    assert last.runs == (Run(0, 512, 40960),)


def test_compression_unit_is_zeros_from_its_valid_size_on() -> None:
    table = units([(1024, 0), (7168, None)], 8192, 4000)
    chunk = run_sync(table.chunk(0))
    assert chunk.decode is not None
    assert chunk.decode(RUN_OF_A, 8192) == b"a" * 4000 + bytes(4192)


def test_compression_unit_behind_the_valid_size_is_zeros() -> None:
    assert run_sync(units([(16384, 0)], 16384, 8192).chunk(1)).runs == (Run(0, 8192, None),)


def test_compression_unit_with_a_hole_first() -> None:
    with pytest.raises(Corrupt, match="after a hole"):
        run_sync(units([(512, None), (7680, 0)], 8192).chunk(0))


@pytest.mark.parametrize(("cluster", "code"), [(4096, 3), (8192, 4), (4096, 200)])
def test_unknown_compression_units(cluster: int, code: int) -> None:
    with pytest.raises(Unsupported):
        CompressionUnits([], 1, 1, cluster, code)


DECODERS: list[Callable[[bytes], object]] = [decode_reparse, decode_eas]


@pytest.mark.parametrize("decode", DECODERS)
@given(
    data=st.binary(max_size=200),
    tag=st.sampled_from([0xA0000003, 0xA000000C, 0xA000001D, 0x80000017]),
)
def test_values_of_garbage(decode: Callable[[bytes], object], data: bytes, tag: int) -> None:
    head = struct.pack("<IHH", tag, min(len(data), 190), 0)
    with contextlib.suppress(Corrupt):
        decode(head + data)


def ea(name: bytes, value: bytes, following: int = 0) -> bytes:
    return struct.pack("<IBBH", following, 0, len(name), len(value)) + name + b"\0" + value


def test_extended_attributes() -> None:
    first = ea(b"$LXMOD", b"1234", 20)
    assert len(first) == 19
    value = first + b"\0" + ea(b"$LXDEV", struct.pack("<II", 8, 17))
    found = decode_eas(value)
    assert found[b"$LXMOD"] == b"1234"
    assert device_number(found) == os.makedev(8, 17)
    for bad in (ea(b"$LXDEV", b"12"), ea(b"$LXDEV", struct.pack("<II", 1 << 12, 0)), b""):
        with pytest.raises(Corrupt):
            device_number(decode_eas(bad))
    for bad in (ea(b"x", b"1234")[:-1], ea(b"x", b"1234", 4)):
        with pytest.raises(Corrupt):
            decode_eas(bad)


def mount_point(target: str) -> bytes:
    name = target.encode("utf-16-le")
    data = struct.pack("<HHHH", 0, len(name), 0, 0) + name
    return struct.pack("<IHH", 0xA0000003, len(data), 0) + data


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("\\??\\c:", b"C:/"),
        ("\\??\\C:\\Documents and Settings\\", b"C:/Documents and Settings"),
        ("\\??\\UNC\\server\\share\\x", b"//server/share/x"),
        (
            "\\??\\Volume{01234567-89ab-cdef-0123-456789abcdef}",
            b"Volume{01234567-89ab-cdef-0123-456789abcdef}/",
        ),
        ("\\\\?\\D:\\x", b"D:/x"),
        ("\\\\server\\share", b"//server/share"),
        ("\\x\\y", b"/x/y"),
    ],
)
def test_targets(target: str, path: bytes) -> None:
    point = decode_reparse(mount_point(target))
    assert point.target == path
