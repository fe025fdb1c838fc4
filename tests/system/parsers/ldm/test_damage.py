"""Damaged LDM databases: another copy is used, or an error says what is wrong; nothing hangs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.parsers.ldm.build import (
    ALL_KINDS,
    CONFIG_START,
    DATABASE_SECTORS,
    DISK_SECTORS,
    GPT_DATABASE,
    Group,
    number,
    record,
    text,
    with_checksum,
    write_disk,
)
from tests.support.parsers.ldm.reading import read_disk
from vmount.blocks.assembly import build_source
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.layout import Layout
from vmount.parsers.ldm.disk import LdmDisk
from vmount.parsers.ldm.group import assemble
from vmount.parsers.ldm.structures import PRIVHEAD, TOCBLOCK, VMDB
from vmount.parsers.ldm.vblk import RECORD, VBLK, Fragments, parse_record
from vmount.parsers.reader import BlockSource, Buffer, BytesReader, Span

SECTOR = 512
GROUP = Group(3, ALL_KINDS)
DATABASE = (DISK_SECTORS - DATABASE_SECTORS) * SECTOR
MOST_READS = 64


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("ldm")
    built = {}
    for name, gpt in [("mbr", False), ("gpt", True)]:
        path: Path = folder / name
        write_disk(replace(GROUP, gpt=gpt), 0, path)
        built[name] = path.read_bytes()
    return built


def patched(image: bytes, offset: int, data: bytes) -> bytes:
    return image[:offset] + data + image[offset + len(data) :]


def is_as_before(disk: LdmDisk, image: bytes) -> bool:
    before = read_disk(BytesReader(image))
    return disk.header == before.header and disk.database == before.database


@pytest.mark.parametrize(
    ("style", "copies"),
    [
        ("mbr", [6 * SECTOR, DATABASE + 1856 * SECTOR, DATABASE + 2047 * SECTOR]),
        ("gpt", [(GPT_DATABASE + 1856) * SECTOR, (GPT_DATABASE + 2047) * SECTOR]),
    ],
)
def test_any_one_privhead_will_do(images: dict[str, bytes], style: str, copies: list[int]) -> None:
    image = images[style]
    for kept in copies:
        damaged = image
        for copy in copies:
            assert image[copy : copy + 8] == b"PRIVHEAD"
            if copy != kept:
                damaged = patched(damaged, copy, bytes(SECTOR))
        assert is_as_before(read_disk(BytesReader(damaged)), image)
    for copy in copies:
        image = patched(image, copy, bytes(SECTOR))
    with pytest.raises(Corrupt, match="without a copy of PRIVHEAD"):
        read_disk(BytesReader(image))


def test_a_privhead_with_a_wrong_checksum_is_passed_over(images: dict[str, bytes]) -> None:
    image = patched(images["mbr"], 6 * SECTOR + 0x30, b"f")
    disk = read_disk(BytesReader(image))
    assert is_as_before(disk, images["mbr"])
    assert "PRIVHEAD checksum" in disk.warnings[0]


@pytest.mark.parametrize("sector", [1, 2, DATABASE_SECTORS - 3, DATABASE_SECTORS - 2])
def test_any_one_tocblock_will_do(images: dict[str, bytes], sector: int) -> None:
    image = images["mbr"]
    for other in {1, 2, DATABASE_SECTORS - 3, DATABASE_SECTORS - 2} - {sector}:
        image = patched(image, DATABASE + other * SECTOR + 40, b"garbage")
    disk = read_disk(BytesReader(image))
    assert is_as_before(disk, images["mbr"])
    assert len(disk.warnings) == 3


def header_with(layout: Layout, image: bytes, offset: int, **values: object) -> bytes:
    """The image with fields of a structure changed, its checksum made right again."""
    parsed = layout.parse(image, offset)
    fields = {
        field.name: parsed[field.name] for field in layout.fields if not field.format.endswith("x")
    }
    built = layout.build(**(fields | values))
    if layout is not VMDB:
        built = with_checksum(built)
    return patched(image, offset, built)


@pytest.mark.parametrize(
    "values",
    [
        {"database_start": 1 << 60},
        {"database_start": DISK_SECTORS - 1},
        {"database_size": 0},
        {"database_size": 1 << 50},
        {"data_size": 1 << 50},
        {"data_start": (1 << 64) - 1},
        {"major": 3},
    ],
    ids=str,
)
def test_absurd_privheads_are_refused(images: dict[str, bytes], values: dict[str, object]) -> None:
    image = images["mbr"]
    for offset in (6 * SECTOR, DATABASE + 1856 * SECTOR, DATABASE + 2047 * SECTOR):
        image = header_with(PRIVHEAD, image, offset, **values)
    with pytest.raises((Corrupt, Unsupported)):
        read_disk(BytesReader(image))


@pytest.mark.parametrize(
    "values",
    [
        {"start_1": 1 << 60},
        {"size_1": 0},
        {"size_1": DATABASE_SECTORS},
        {"name_1": b"other\0\0\0"},
    ],
    ids=str,
)
def test_absurd_tocblocks_cost_the_database(
    images: dict[str, bytes], values: dict[str, object]
) -> None:
    image = images["mbr"]
    for sector in (1, 2, DATABASE_SECTORS - 3, DATABASE_SECTORS - 2):
        image = header_with(TOCBLOCK, image, DATABASE + sector * SECTOR, **values)
    assert read_disk(BytesReader(image)).database is None


@pytest.mark.parametrize(
    "values",
    [
        {"vblk_size": 0},
        {"vblk_size": 1 << 31},
        {"vblk_offset": 0},
        {"vblk_offset": (1 << 32) - 128},
        {"vblk_offset": 513},
        {"magic": b"VMDX"},
        {"major": 5},
        {"group_guid": b"another".ljust(64, b"\0")},
    ],
    ids=str,
)
def test_absurd_vmdbs_cost_the_database(
    images: dict[str, bytes], values: dict[str, object]
) -> None:
    offset = DATABASE + CONFIG_START * SECTOR
    disk = read_disk(BytesReader(header_with(VMDB, images["mbr"], offset, **values)))
    assert disk.database is None
    assert "is unusable" in disk.warnings[-1]
    assert assemble([("a", disk)]).volumes == ()


def test_a_vmdb_with_too_many_records_is_read_to_its_end(images: dict[str, bytes]) -> None:
    offset = DATABASE + CONFIG_START * SECTOR
    image = header_with(VMDB, images["mbr"], offset, vblk_count=(1 << 32) - 1, committed_disks=9)
    result = assemble([("a", read_disk(BytesReader(image)))])
    assert len(result.volumes) == len(ALL_KINDS)
    assert any("should have" in text for text in result.warnings)


def test_a_database_that_is_cut_keeps_the_disk_in_its_group(images: dict[str, bytes]) -> None:
    start = DATABASE + (CONFIG_START + 1) * SECTOR
    image = patched(images["mbr"], start, bytes(64 * 1024))
    disk = read_disk(BytesReader(image))
    assert disk.database is None
    whole = read_disk(BytesReader(images["mbr"]))
    assert disk.header == whole.header


def test_a_damaged_record_costs_its_volume_only(images: dict[str, bytes]) -> None:
    image = images["mbr"]
    place = image.index(b"Simple1-01") - VBLK.size - RECORD.size - 4
    start = DATABASE + CONFIG_START * SECTOR
    place -= (place - start) % 128
    image = patched(image, place + VBLK.size, b"\xff" * RECORD.size)
    disks = [("a", read_disk(BytesReader(image)))]
    volumes = {volume.name: volume for volume in assemble(disks).volumes}
    assert len(volumes) == len(ALL_KINDS)
    assert "components" in (volumes["Simple1"].problem or "")
    assert "missing" in (volumes["Span1"].problem or "")


def test_two_records_with_one_id_are_both_left_out(images: dict[str, bytes]) -> None:
    image = images["mbr"]
    start = image.index(b"VBLK", DATABASE)
    simple = image.index(b"\x07Simple1") - VBLK.size
    simple -= (simple - start) % 128
    vblk = image[simple : simple + 128]
    free = next(
        place
        for place in range(start, len(image), 128)
        if image[place + 14 : place + 16] == b"\0\0"
    )
    other = vblk[:4] + (999).to_bytes(4, "big") + vblk[8:].replace(b"Simple1", b"Simple9")
    disk = read_disk(BytesReader(patched(image, free, other)))
    assert disk.database is not None
    assert any("two records" in text for text in disk.database.damage)
    assert not {"Simple1", "Simple9"} & {each.name for each in disk.database.volumes.values()}


def fragment(group: int, index: int, count: int, data: bytes = b"") -> bytes:
    head = VBLK.build(magic=b"VBLK", number=4, group=group, index=index, count=count)
    return (head + data).ljust(128, b"\0")


def test_fragments_in_any_order() -> None:
    fragments = Fragments()
    assert fragments.add(fragment(7, 1, 2, b"b" * 112)) is None
    assert fragments.add(fragment(8, 0, 1, b"c" * 112)) == b"c" * 112
    assert fragments.unfinished == 1
    assert fragments.add(fragment(7, 0, 2, b"a" * 112)) == b"a" * 112 + b"b" * 112
    assert fragments.unfinished == 0


@pytest.mark.parametrize(
    "given",
    [
        [fragment(1, 2, 2)],
        [fragment(1, 0, 65_535)],
        [fragment(1, 0, 2), fragment(1, 0, 2)],
        [fragment(1, 0, 2), fragment(1, 1, 3)],
        [bytes(128)],
    ],
)
def test_fragments_that_do_not_go_together(given: list[bytes]) -> None:
    fragments = Fragments()
    with pytest.raises(Corrupt):
        for each in given:
            fragments.add(each)
    assert all(fragments.unfinished <= 1 for _ in given)


@pytest.mark.parametrize(
    "data",
    [
        record(0x51, 0, b"\x09" + bytes(9)),
        record(0x51, 0, number(1) + b"\xffshort"),
        record(0x33, 8, number(1) + text("Disk1-01")),
        record(0x44, 0, number(1) + text("Disk1") + bytes(15)),
        RECORD.build(status=0, flags=0, type=0x51, size=1 << 31),
    ],
)
def test_records_that_end_early(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse_record(data)


@pytest.mark.parametrize("kind", [0, 0x11, 0x41, 0x36, 0x65, 0xFF])
def test_unknown_records_are_said(kind: int) -> None:
    with pytest.raises(Unsupported, match="VBLK record"):
        parse_record(record(kind, 0, bytes(64)))


@pytest.mark.parametrize(
    "content",
    [b"", bytes(SECTOR), bytes(4 << 20), bytes(510) + b"\x55\xaa" + bytes(4 << 20)],
    ids=["empty", "sector", "zeros", "empty table"],
)
def test_other_disks_are_not_recognised(content: bytes) -> None:
    with pytest.raises(NotRecognised):
        read_disk(BytesReader(content))


def test_a_disk_that_was_made_basic_again_is_not_recognised(images: dict[str, bytes]) -> None:
    with pytest.raises(NotRecognised):
        read_disk(BytesReader(patched(images["mbr"], 446 + 4, b"\x07")))


class Bounded:
    """Counts reads and refuses more than any database needs."""

    def __init__(self, data: bytes) -> None:
        self._inner = BytesReader(data)
        self.size = len(data)
        self.reads = 0

    def try_read(self, offset: int, length: int) -> Buffer:
        self.reads += 1
        assert self.reads <= MOST_READS
        return self._inner.try_read(offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        return self.try_read(offset, length)

    def prefetch(self, spans: object) -> None:
        pass


def flip(image: bytearray, chosen: random.Random, places: list[Span]) -> None:
    for _ in range(chosen.randrange(1, 12)):
        span = chosen.choice(places)
        position = span.offset + chosen.randrange(span.length)
        image[position] = chosen.choice([0, 0xFF, chosen.randrange(256)])


def truncate(image: bytearray, chosen: random.Random, places: list[Span]) -> None:
    del image[chosen.randrange(len(image)) :]


def repair(image: bytearray) -> None:
    """Make checksums right, so that what is behind them is reached."""
    for magic in (b"PRIVHEAD", b"TOCBLOCK"):
        place = image.find(magic)
        while place >= 0:
            image[place : place + SECTOR] = with_checksum(bytes(image[place : place + SECTOR]))
            place = image.find(magic, place + SECTOR)


@pytest.mark.parametrize("style", ["mbr", "gpt"])
@pytest.mark.parametrize("mutate", [flip, truncate])
def test_mutations_give_a_value_or_a_parse_error(
    images: dict[str, bytes],
    style: str,
    mutate: Callable[[bytearray, random.Random, list[Span]], None],
) -> None:
    chosen = random.Random(20)
    image = images[style]
    start = image.index(b"VMDB")
    places = [
        Span(0, 34 * SECTOR),
        Span(start - CONFIG_START * SECTOR, 3 * SECTOR),
        Span(start, 256),
        Span(start + SECTOR, 48 * 128),
    ]
    values = 0
    for round_number in range(150 if mutate is flip else 30):
        damaged = bytearray(image)
        mutate(damaged, chosen, places)
        if round_number % 2:
            repair(damaged)
        source: BlockSource = Bounded(bytes(damaged))
        try:
            disk = read_disk(source)
        except ParseError:
            continue
        values += 1
        for volume in assemble([("a", disk)]).volumes:
            if volume.problem is None:
                built = build_source(volume.mapping, {"a": BytesReader(damaged)})
                assert built.size == volume.size
    assert values or mutate is truncate
