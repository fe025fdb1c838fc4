"""MD arrays: what the kernel reads is what we read, with members missing, stale or damaged."""

from __future__ import annotations

import errno
import random
import struct
from dataclasses import replace

import pytest

from tests.contracts.block_source import check_block_source
from tests.support.parsers.volume_images import IMAGES, CountingReader, builder, digest, load
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError
from vmount.parsers.md import superblock_1, superblock_90
from vmount.parsers.md.assemble import MdArray, MdResult, assemble_md
from vmount.parsers.md.read import read_md_member
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.volume_map import Mirror, Missing

GROUPS = sorted(path.stem for path in IMAGES.glob("md-*.json"))
REFUSED = {
    "md-journal": "not supported: an array with a write journal",
    "md-reshape": "not supported: an array during a reshape",
}
READABLE = [group for group in GROUPS if group not in REFUSED]
SECTOR = 512
START_1_2 = 8 * SECTOR


def assemble(sources: dict[str, BytesReader]) -> MdResult:
    return assemble_md(
        [(name, run_sync(read_md_member(source))) for name, source in sources.items()]
    )


def only(result: MdResult) -> MdArray:
    assert len(result.arrays) == 1
    return result.arrays[0]


def changed(image: bytes, offset: int, code: str, value: int) -> bytes:
    """Change a field of a superblock 1.2 and mend its checksum."""
    data = bytearray(image)
    struct.pack_into(code, data, START_1_2 + offset, value)
    layout = superblock_1.SUPERBLOCK
    at = START_1_2 + layout.offset("checksum")
    roles = struct.unpack_from("<I", data, START_1_2 + layout.offset("role_count"))[0]
    struct.pack_into("<I", data, at, 0)
    size = layout.size + 2 * roles
    padded = bytes(data[START_1_2 : START_1_2 + size]) + bytes(size % 4)
    total = sum(struct.unpack(f"<{len(padded) // 4}I", padded))
    struct.pack_into("<I", data, at, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    return bytes(data)


def field(name: str) -> int:
    return superblock_1.SUPERBLOCK.offset(name)


def test_the_images_cover_the_levels() -> None:
    assert len(READABLE) >= 35


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("group", READABLE)
def test_arrays_read_as_the_kernel_reads_them(group: str) -> None:
    image = load(group)
    for left_out in [(), *image.read]:
        sources = image.sources(left_out)
        array = only(assemble(sources))
        expected = next(iter(image.read[left_out].values()))
        assert array.size == expected.size
        assert array.problem is None
        assert digest(run_sync(array.open(builder(sources)))) == expected.sha256
        if not left_out:
            assert array.degraded == group.startswith("md-stale")


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("group", READABLE)
def test_too_many_missing_members_are_named(group: str) -> None:
    image = load(group)
    sources = image.sources(range(1, len(image.members)))
    array = only(assemble(sources))
    if array.level == "raid1":
        assert array.problem is None
        return
    assert array.problem is not None and "missing" in array.problem
    if array.mapping is not None:
        with pytest.raises(OSError) as caught:
            run_sync(run_sync(array.open(builder(sources))).read(0, array.size))
        assert caught.value.errno == errno.EIO


@pytest.mark.parametrize(("group", "problem"), REFUSED.items())
def test_what_cannot_be_read_is_refused_by_name(group: str, problem: str) -> None:
    array = only(assemble(load(group).sources()))
    assert array.problem == problem
    with pytest.raises(ParseError, match=problem):
        run_sync(array.open(builder({})))


@pytest.mark.parametrize("group", ["md-staleone", "md-stalefive"])
def test_a_member_that_is_out_of_date_is_left_out(group: str) -> None:
    result = assemble(load(group).sources())
    assert only(result).degraded
    assert [("left out" in warning) for warning in result.warnings] == [True]
    # The stale one alone does not know better.
    stale = result.warnings[0].partition(":")[0]
    alone = assemble({stale: BytesReader(load(group).members[stale])})
    assert only(alone).members == (stale,)


@pytest.mark.requirement("R33")
async def test_clones_are_paired_in_the_order_given() -> None:
    members = load("md-5ls").members
    other = {
        name: bytes(data[:600_000]) + bytes(len(data) - 600_000) for name, data in members.items()
    }
    sources: dict[str, BytesReader] = {}
    for name, data in members.items():
        sources[f"first {name}"] = BytesReader(data)
        sources[f"second {name}"] = BytesReader(other[name])
    result = assemble(sources)
    assert [array.copy for array in result.arrays] == [0, 1]
    assert len(result.warnings) == 2
    for array, word in zip(result.arrays, ("first", "second"), strict=True):
        assert all(name.startswith(word) for name in array.members)
    first, second = [run_sync(array.open(builder(sources))) for array in result.arrays]
    assert digest(first) == load("md-5ls").read[()]["5ls"].sha256
    assert digest(second) != digest(first)


@pytest.mark.parametrize("group", ["md-6zr", "md-far3", "md-zonesoriginal"])
async def test_arrays_keep_the_contract_of_sources(group: str) -> None:
    sources = load(group).sources()
    source = run_sync(only(assemble(sources)).open(builder(sources)))
    expected = bytes(run_sync(source.read(0, source.size)))
    assert digest(source) == next(iter(load(group).read[()].values())).sha256
    await check_block_source(source, expected)


def test_a_spare_is_not_in_the_array() -> None:
    array = only(assemble(load("md-one12").sources()))
    assert (array.degraded, len(array.members)) == (False, 2)


def test_parity_of_an_array_in_use_is_not_trusted() -> None:
    members = {
        name: BytesReader(changed(data, field("resync_offset"), "<Q", 0))
        for name, data in load("md-5ls").members.items()
    }
    array = only(assemble(members))
    assert digest(run_sync(array.open(builder(members)))) == load("md-5ls").read[()]["5ls"].sha256

    class Failing(BytesReader):
        def try_read(self, offset: int, length: int) -> bytes:
            raise OSError(errno.EIO, "failing")

    failing = members | {"md-5ls-2": Failing(bytes(members["md-5ls-2"].size))}
    opened = run_sync(array.open(builder(failing)))
    with pytest.raises(OSError):
        run_sync(opened.read(0, opened.size))
    del members["md-5ls-2"]
    problem = only(assemble(members)).problem
    assert problem == "not supported: an array that was in use and lacks a member"


def test_a_mirror_in_use_is_read_from_its_first_copy() -> None:
    members = {
        name: BytesReader(changed(data, field("resync_offset"), "<Q", 0))
        for name, data in load("md-one12").members.items()
    }
    mapping = only(assemble(members)).mapping
    assert isinstance(mapping, Mirror)
    assert len(mapping.copies) == 1
    roles = {name: run_sync(read_md_member(source)) for name, source in members.items()}
    first = next(name for name, member in roles.items() if member.role(member.number) == 0)
    del members[first]
    problem = only(assemble(members)).problem
    assert problem == "not supported: a mirror that was in use and lacks its first copy"


def test_a_member_that_is_being_rebuilt_is_left_out() -> None:
    images = dict(load("md-5ls").members)
    image = changed(images["md-5ls-1"], field("recovery_offset"), "<Q", 64)
    images["md-5ls-1"] = changed(image, field("feature_map"), "<I", 2)
    result = assemble({name: BytesReader(data) for name, data in images.items()})
    assert only(result).degraded
    assert result.warnings == ("md-5ls-1: left out of array 5ls: its rebuild was not finished",)


@pytest.mark.parametrize("group", ["md-5ls", "md-near3"])
def test_bad_blocks_are_read_from_the_other_members(group: str) -> None:
    image = load(group)
    members = dict(image.members)
    name = f"{group}-1"
    member = run_sync(read_md_member(BytesReader(members[name])))
    data = bytearray(members[name])
    bad = member.data_offset // SECTOR + 40
    data[bad * SECTOR : (bad + 24) * SECTOR] = b"\xbb" * 24 * SECTOR
    log = START_1_2 + 16 * SECTOR
    data[log : log + 4096] = struct.pack("<Q", bad << 10 | 24) + b"\xff" * 4088
    patched = changed(bytes(data), field("feature_map"), "<I", 8)
    patched = changed(patched, field("bad_block_log_offset"), "<i", 16)
    patched = changed(patched, field("bad_block_log_size"), "<H", 8)
    members[name] = changed(patched, field("bad_block_shift"), "<B", 0)
    sources = {name: BytesReader(data) for name, data in members.items()}
    array = only(assemble(sources))
    assert array.degraded
    assert digest(run_sync(array.open(builder(sources)))) == image.read[()][group[3:]].sha256


def test_a_superblock_of_the_other_byte_order() -> None:
    swapped = {}
    for name, image in load("md-five090").members.items():
        where = superblock_90.place(len(image))
        assert where is not None
        words = list(struct.unpack_from("<1024I", image, where))
        for low in (39, 41):
            words[low], words[low + 1] = words[low + 1], words[low]
        data = bytearray(image)
        struct.pack_into(">1024I", data, where, *words)
        swapped[name] = BytesReader(data)
    array = only(assemble(swapped))
    expected = next(iter(load("md-five090").read[()].values()))
    assert digest(run_sync(array.open(builder(swapped)))) == expected.sha256


def test_chunks_are_made_of_sectors() -> None:
    members = {name: BytesReader(data) for name, data in load("md-five090").members.items()}
    found = [(name, run_sync(read_md_member(source))) for name, source in members.items()]
    hostile = [(name, replace(member, chunk=1)) for name, member in found]
    assert only(assemble_md(hostile)).problem == "MD: chunk size: found 0x1"


def test_a_damaged_superblock_is_not_believed() -> None:
    for group in ("md-one11", "md-5ls", "md-one10", "md-one090"):
        image = next(iter(load(group).members.values()))
        member = run_sync(read_md_member(BytesReader(image)))
        where = {"1.1": 0, "1.2": START_1_2, "0.90": superblock_90.place(len(image))}.get(
            member.version, superblock_1.places(len(image))["1.0"]
        )
        assert where is not None
        data = bytearray(image)
        data[where + 100] ^= 1
        with pytest.raises(Corrupt, match="checksum"):
            run_sync(read_md_member(BytesReader(data)))


def test_other_devices_are_not_recognised() -> None:
    for size in (0, 511, 4096, 100_000, 1 << 20):
        with pytest.raises(NotRecognised):
            run_sync(read_md_member(BytesReader(bytes(size))))


@pytest.mark.requirement("R23")
@pytest.mark.parametrize("group", ["md-6zr", "md-zones", "md-farodd", "md-one090", "md-linear"])
def test_mutated_superblocks(group: str) -> None:
    """Hostile fields with checksums that are right: an array, or a ParseError."""
    chosen = random.Random(group)
    members = load(group).members
    for _ in range(150):
        sources = {}
        for name, image in members.items():
            start = superblock_90.place(len(image)) if group.endswith("090") else START_1_2
            assert start is not None
            data = bytearray(image[start : start + 4096])
            for _ in range(chosen.randrange(3)):
                at = chosen.randrange(16, 320)
                data[at] = chosen.choice((0, 1, 0x7F, 0xFF, chosen.randrange(256)))
            whole = bytearray(image)
            whole[start : start + 4096] = data
            if start == START_1_2:
                roles = struct.unpack_from("<I", data, field("role_count"))[0]
                if roles <= superblock_1.MAX_ROLES:
                    whole = bytearray(changed(bytes(whole), field("role_count"), "<I", roles))
            sources[name] = CountingReader(whole, 10_000)
        found = []
        for name, source in sources.items():
            try:
                found.append((name, run_sync(read_md_member(source))))
            except ParseError:
                continue
        for array in assemble_md(found).arrays:
            try:
                opened = run_sync(array.open(builder(dict(sources))))
                run_sync(opened.read(0, min(opened.size, 1 << 16)))
            except (ParseError, OSError):
                continue


def test_missing_columns_carry_names() -> None:
    image = load("md-5ls")
    mapping = only(assemble(image.sources((1,)))).mapping
    assert mapping is not None
    assert Missing("member 1 of array 5ls", 1 << 21) in getattr(mapping, "columns", ()) or any(
        isinstance(column, Missing) and "5ls" in column.device
        for column in getattr(mapping, "columns", ())
    )
