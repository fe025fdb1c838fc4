"""LVM2: what the kernel reads is what we read, with physical volumes missing, stale or cloned."""

from __future__ import annotations

import errno
import struct
from itertools import pairwise

import pytest

from tests.contracts.block_source import check_block_source
from tests.support.parsers.volume_images import Image, builder, digest, load
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.lvm.assemble import LvmResult, LvmVolume, assemble_lvm
from vmount.parsers.lvm.label import AREA_HEADER, AREA_HEADER_SIZE, lvm_crc
from vmount.parsers.lvm.physical import read_pv
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.volume_map import Mirror

GROUPS = ("plain", "raids", "thin", "many", "snap", "cache", "stale")
REFUSED = {
    "merged": "not supported: a snapshot that is being merged",
    "merging": "not supported: a snapshot that is being merged",
    "back": "not supported: a cache in writeback mode (lvconvert --splitcache)",
}
NOT_READ_BY_THE_KERNEL = {"other", "full", *REFUSED}
AREA = 4096
"""Where LVM2 puts the first metadata area."""


def assemble(sources: dict[str, BytesReader]) -> LvmResult:
    members = [(name, run_sync(read_pv(source))) for name, source in sources.items()]
    return run_sync(assemble_lvm(members))


def by_name(result: LvmResult) -> dict[str, LvmVolume]:
    found = {volume.name: volume for volume in result.volumes}
    assert len(found) == len(result.volumes)
    return found


def text_of(image: bytes) -> bytes:
    """Return the metadata text of a physical volume."""
    raw = AREA_HEADER.parse(image, AREA)
    area = image[AREA : AREA + raw.size]
    ring = area[raw.text_offset :] + area[AREA_HEADER_SIZE : raw.text_offset]
    return ring[: raw.text_size]


def with_text(image: bytes, text: bytes, offset: int = 1024) -> bytes:
    """Return a physical volume with another metadata text, at an offset where it may wrap."""
    raw = AREA_HEADER.parse(image, AREA)
    data = bytearray(image)
    ring = bytearray(raw.size - AREA_HEADER_SIZE)
    start = offset - AREA_HEADER_SIZE
    for index, byte in enumerate(text):
        ring[(start + index) % len(ring)] = byte
    data[AREA + AREA_HEADER_SIZE : AREA + raw.size] = ring
    header = bytearray(
        AREA_HEADER.build(
            magic=raw.magic,
            version=1,
            start=AREA,
            size=raw.size,
            text_offset=offset,
            text_size=len(text),
            text_crc=lvm_crc(text),
        ).ljust(AREA_HEADER_SIZE, b"\0")
    )
    struct.pack_into("<I", header, 0, lvm_crc(bytes(header[4:])))
    data[AREA : AREA + AREA_HEADER_SIZE] = header
    return bytes(data)


def rewritten(image: Image, *changes: tuple[str, str]) -> dict[str, BytesReader]:
    """Return the members with their metadata text changed."""
    sources = {}
    for name, data in image.members.items():
        if not any(data[AREA : AREA + AREA_HEADER_SIZE]):
            sources[name] = BytesReader(data)
            continue
        text = text_of(data).decode()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        sources[name] = BytesReader(with_text(data, text.encode()))
    return sources


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("group", GROUPS)
def test_volumes_read_as_the_kernel_reads_them(group: str) -> None:
    image = load(f"lvm-{group}")
    sources = image.sources()
    volumes = by_name(assemble(sources))
    assert volumes.keys() - image.read[()].keys() <= NOT_READ_BY_THE_KERNEL
    for name, expected in image.read[()].items():
        volume = volumes[name]
        if name in REFUSED:
            continue
        assert (volume.size, volume.problem) == (expected.size, None)
        source = run_sync(volume.open(builder(sources)))
        assert source.size == expected.size
        assert digest(source) == expected.sha256, name
        assert volume.degraded == (group == "stale" and name != "plain")


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("member", range(5))
def test_arrays_read_as_the_kernel_reads_them_without_a_member(member: int) -> None:
    image = load("lvm-raids")
    sources = image.sources((member,))
    result = assemble(sources)
    volumes = by_name(result)
    assert len(volumes) == 14
    assert "lacks physical volume" in result.warnings[0]
    degraded = 0
    for name, volume in volumes.items():
        expected = image.read[(member,)].get(name)
        if expected is None:
            assert name == "raid0"
            assert volume.problem is not None and "physical volume pv" in volume.problem
            continue
        assert volume.problem is None
        degraded += volume.degraded
        assert digest(run_sync(volume.open(builder(sources)))) == expected.sha256, name
    assert degraded >= 5


@pytest.mark.requirement("R35")
@pytest.mark.parametrize("member", range(4))
def test_without_a_member_the_others_are_listed(member: int) -> None:
    image = load("lvm-plain")
    sources = image.sources((member,))
    volumes = by_name(assemble(sources))
    assert volumes.keys() == image.read[()].keys()
    readable = set()
    for name, volume in volumes.items():
        if volume.problem is None:
            readable.add(name)
            opened = run_sync(volume.open(builder(sources)))
            assert digest(opened) == image.read[()][name].sha256, name
        elif volume.device_map is not None:
            assert "missing: physical volume pv" in volume.problem
            opened = run_sync(volume.open(builder(sources)))
            with pytest.raises(OSError) as caught:
                run_sync(opened.read(0, opened.size))
            assert caught.value.errno == errno.EIO
    # LVM2 does not activate a mirror that lacks a copy, nor do we know one without a log to be in sync.
    assert set(image.read[(member,)]) ^ readable <= {"mirror", "corelog"}


def test_all_sectors_of_labels_and_areas_that_wrap() -> None:
    members = list(load("lvm-plain").members.values())
    assert [image.find(b"LABELONE") // 512 for image in members] == [0, 1, 2, 3]
    raw = AREA_HEADER.parse(members[0], AREA)
    assert raw.text_offset + raw.text_size > raw.size
    groups = [run_sync(read_pv(BytesReader(image))).group for image in members]
    assert groups[0] == groups[1] == groups[3]
    assert groups[2] is None


def test_text_may_wrap_anywhere() -> None:
    image = next(iter(load("lvm-stale").members.values()))
    raw = AREA_HEADER.parse(image, AREA)
    text = text_of(image)
    expected = run_sync(read_pv(BytesReader(image))).group
    for part in (1, 511, 512, 513, len(text) - 1, len(text)):
        wrapped = with_text(image, text, raw.size - part)
        assert run_sync(read_pv(BytesReader(wrapped))).group == expected


def test_the_second_metadata_area_stands_in_for_the_first() -> None:
    image = bytearray(load("lvm-plain").members["lvm-plain-3"])
    whole = run_sync(read_pv(BytesReader(image)))
    image[AREA + AREA_HEADER.offset("text_crc")] ^= 1
    volume = run_sync(read_pv(BytesReader(image)))
    assert volume.group == whole.group
    assert ["checksum" in problem for problem in volume.problems] == [True]


def test_the_newest_metadata_counts() -> None:
    result = assemble(load("lvm-stale").sources())
    assert result.warnings == (
        "lvm-stale-2: its metadata of volume group vgstale is out of date (6, the newest is 7)",
    )


def test_images_that_missed_a_change_are_not_read() -> None:
    """The kernel wrote to both volumes while the first physical volume was away."""
    image = load("lvm-stale")
    sources = image.sources()
    volumes = by_name(assemble(sources))
    for name in ("mirror", "parity"):
        mapping = volumes[name].mapping
        assert mapping is not None
        assert "out of date" in repr(mapping)
        assert digest(run_sync(volumes[name].open(builder(sources)))) == image.read[()][name].sha256


@pytest.mark.requirement("R33")
def test_clones_are_paired_in_the_order_given() -> None:
    image = load("lvm-plain")
    sources: dict[str, BytesReader] = {}
    for name, data in image.members.items():
        other = data[:300_000] + bytes(100_000) + data[400_000:]
        sources[f"first {name}"] = BytesReader(data)
        sources[f"second {name}"] = BytesReader(other)
    result = assemble(sources)
    assert len(result.volumes) == 12
    assert ["is found 2 times" in warning for warning in result.warnings] == [True, True]
    differ = set()
    for volume in result.volumes:
        assert (volume.group, volume.problem, volume.degraded) == ("vgplain", None, False)
        assert all(name.startswith(("first", "second")[volume.copy]) for name in volume.members)
        if digest(run_sync(volume.open(builder(sources)))) != image.read[()][volume.name].sha256:
            differ.add((volume.copy, volume.name))
    assert (1, "linear") in differ
    assert not any(copy == 0 for copy, _ in differ)


@pytest.mark.requirement("R33")
def test_groups_of_one_name() -> None:
    image = load("lvm-stale")
    uuid = run_sync(read_pv(image.sources()["lvm-stale-0"])).group
    assert uuid is not None
    sources = dict(image.sources())
    pvs = {pv.uuid: "Z" + pv.uuid[1:] for pv in uuid.pvs.values()}
    changes = [(uuid.uuid, "Z" + uuid.uuid[1:]), *pvs.items()]
    for name, source in rewritten(image, *changes).items():
        data = bytearray(run_sync(source.read(0, source.size)))
        label = next(at for at in range(0, 2048, 512) if data[at : at + 8] == b"LABELONE")
        data[label + 32 : label + 33] = b"Z"
        struct.pack_into("<I", data, label + 16, lvm_crc(bytes(data[label + 20 : label + 512])))
        sources[f"other {name}"] = BytesReader(data)
    result = assemble(sources)
    assert {volume.group for volume in result.volumes} == {"vgstale"}
    assert len({volume.group_uuid for volume in result.volumes}) == 2
    assert {volume.copy for volume in result.volumes} == {0}
    for volume in result.volumes:
        seen = digest(run_sync(volume.open(builder(sources))))
        assert seen == image.read[()][volume.name].sha256


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(name: str) -> None:
    group = "cache" if name == "back" else "snap"
    volume = by_name(assemble(load(f"lvm-{group}").sources()))[name]
    assert volume.problem == REFUSED[name]
    with pytest.raises(ParseError, match="vg"):
        run_sync(volume.open(builder({})))


def test_a_snapshot_that_ran_full_is_refused() -> None:
    sources = load("lvm-snap").sources()
    volume = by_name(assemble(sources))["full"]
    with pytest.raises(Unsupported, match="store was full"):
        run_sync(volume.open(builder(sources)))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('type = "striped"', 'type = "vdo"', "segment type 'vdo'"),
        ('type = "striped"', 'type = "writecache"', "segment type 'writecache'"),
        ('"pv0", 0', '"linear", 0', "contains itself"),
        ('"pv0", 0', '"nobody", 0', "no volume 'nobody'"),
        ('"pv0", 0', '"pv0", 99999', "extents beyond the end of pv0"),
        ("stripe_count = 1", "stripe_count = 0", "number of stripes"),
        ("pe_start = ", "pe_start = 999", "shorter than its volume group says"),
    ],
)
def test_hostile_metadata_costs_the_volume(old: str, new: str, problem: str) -> None:
    sources = rewritten(load("lvm-plain"), (old, new))
    # The one without metadata of its own stays as it is.
    volume = by_name(assemble(sources))["linear"]
    assert volume.problem is not None and problem in volume.problem


def test_volumes_deep_in_each_other() -> None:
    image = load("lvm-stale").members["lvm-stale-0"]
    text = text_of(image).decode()
    head = text[: text.index("logical_volumes")]
    volumes = "".join(
        f'{name} {{ id = "{name}" status = ["VISIBLE"] segment1 {{ start_extent = 0 extent_count = 1'
        f' type = "striped" stripe_count = 1 stripes = ["{below}", 0] }} }}\n'
        for name, below in pairwise([*(f"v{number}" for number in range(500)), "pv0"])
    )
    hostile = with_text(image, f"{head} logical_volumes {{ {volumes} }} }}".encode())
    found = by_name(assemble({"a": BytesReader(hostile)}))
    assert found["v499"].problem is None
    assert found["v0"].problem is not None and "too deep" in found["v0"].problem


def test_a_mirror_without_a_log_is_read_from_its_first_copy() -> None:
    volumes = by_name(assemble(load("lvm-plain").sources()))
    for name, copies in (("mirror", 2), ("corelog", 1)):
        mapping = volumes[name].mapping
        assert isinstance(mapping, Mirror)
        assert len(mapping.copies) == copies


@pytest.mark.parametrize(("group", "name"), [("thin", "t1"), ("thin", "ext"), ("snap", "small")])
async def test_volumes_keep_the_contract_of_sources(group: str, name: str) -> None:
    image = load(f"lvm-{group}")
    sources = image.sources()
    source = run_sync(by_name(assemble(sources))[name].open(builder(sources)))
    assert digest(source) == image.read[()][name].sha256
    expected = bytes(run_sync(source.read(0, source.size)))
    await check_block_source(source, expected)


def test_other_devices_are_not_recognised() -> None:
    for size in (0, 100, 512, 2048, 1 << 20):
        with pytest.raises(NotRecognised):
            run_sync(read_pv(BytesReader(bytes(size))))


def test_a_damaged_label_is_said_to_be_one() -> None:
    image = bytearray(load("lvm-stale").members["lvm-stale-0"])
    image[512 + 40] ^= 1
    with pytest.raises(Corrupt, match="LVM2 label: checksum at 0x200"):
        run_sync(read_pv(BytesReader(image)))
