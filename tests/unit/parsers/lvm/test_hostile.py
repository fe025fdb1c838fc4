"""Metadata that is well formed and means harm: what is made of it stays small, and is refused by name."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.support.parsers.volume_images import load
from tests.unit.parsers.lvm.test_lvm import assemble, by_name, text_of, with_text
from vmount.parsers.errors import Corrupt
from vmount.parsers.lvm.assemble import LvmVolume, assemble_lvm
from vmount.parsers.lvm.group import LogicalVolume, Segment
from vmount.parsers.lvm.label import lvm_crc
from vmount.parsers.lvm.physical import MAX_TEXT, read_pv
from vmount.parsers.lvm.snapshot import MAGIC, read_exceptions
from vmount.parsers.lvm.text import MAX_TOKENS, Section, parse_text
from vmount.parsers.reader import BytesReader, run_sync


def group_of(volumes: str) -> dict[str, LvmVolume]:
    """Return the volumes of a group whose metadata names these."""
    image = load("lvm-stale").members["lvm-stale-0"]
    text = text_of(image).decode()
    head = text[: text.index("logical_volumes")]
    hostile = with_text(image, f"{head} logical_volumes {{ {volumes} }} }}".encode())
    return by_name(assemble({"a": BytesReader(hostile)}))


def volume(name: str, extents: int, *below: str) -> str:
    """Return the text of a volume that is striped over others."""
    stripes = ", ".join(f'"{part}", 0' for part in below)
    return (
        f'{name} {{ id = "{name}" status = ["VISIBLE"] segment1 {{ start_extent = 0 stripe_size = 1'
        f' extent_count = {extents} type = "striped" stripe_count = {len(below)}'
        f" stripes = [{stripes}] }} }}\n"
    )


def test_volumes_that_double_with_each_line() -> None:
    """Each is made of the one before it, twice: thirty lines name a thousand million areas."""
    pairs = enumerate(pairwise(["pv0", *(f"v{number}" for number in range(30))]))
    text = [volume(name, 2 << number, below, below) for number, (below, name) in pairs]
    found = group_of("".join(text))
    assert found["v5"].mapping is not None
    for name in ("v20", "v29"):
        problem = found[name].problem
        assert problem is not None
        assert "too many parts" in problem


class _Walked(dict[str, LogicalVolume]):
    """Volumes that count how often somebody goes over all of them."""

    walks = 0

    def values(self) -> Any:
        self.walks += 1
        return super().values()


@pytest.mark.parametrize("count", [10, 1000])
def test_the_volumes_of_a_group_are_gone_over_a_fixed_number_of_times(count: int) -> None:
    image = load("lvm-stale").members["lvm-stale-0"]
    pv = run_sync(read_pv(BytesReader(image)))
    assert pv.group is not None
    segment = Segment(0, 1, "zero", Section("segment1"))
    volumes = _Walked(
        {
            f"v{number}": LogicalVolume(f"v{number}", str(number), True, (segment,))
            for number in range(count)
        }
    )
    group = replace(pv.group, lvs=volumes)
    result = run_sync(assemble_lvm([("a", replace(pv, group=group))]))
    assert [volume.problem for volume in result.volumes] == [None] * count
    assert volumes.walks < 12


def test_a_text_that_no_group_has_is_refused_before_it_is_read() -> None:
    image = load("lvm-stale").members["lvm-stale-0"]
    grown = bytearray(with_text(image, b"vg0 {}"))
    area = grown[4096:4608]
    area[4 + 16 + 4 + 24 : 4 + 16 + 4 + 32] = (MAX_TEXT + 1).to_bytes(8, "little")
    area[:4] = lvm_crc(bytes(area[4:])).to_bytes(4, "little")
    grown[4096:4608] = area
    pv = run_sync(read_pv(BytesReader(bytes(grown))))
    assert pv.group is None
    assert "size of the text" in pv.problems[0]


def test_a_text_of_too_many_words_is_refused() -> None:
    with pytest.raises(Corrupt, match="too long"):
        parse_text("a = [" + "1," * (MAX_TOKENS + 1) + "]")


def test_volumes_deep_in_each_other_from_the_bottom_up() -> None:
    """None of them is found while another is looked for, so the depth shows in what is made only."""
    pairs = pairwise(["pv0", *(f"v{number}" for number in range(400))])
    found = group_of("".join(volume(name, 1, below) for below, name in pairs))
    assert found["v399"].problem is None
    pairs = pairwise(["pv0", *(f"v{number}" for number in range(200))])
    segments = "".join(
        f'{name} {{ id = "{name}" status = ["VISIBLE"] segment1 {{ start_extent = 0'
        f' extent_count = {number + 1} type = "striped" stripe_count = 1 stripes = ["{below}", 0] }}'
        f" segment2 {{ start_extent = {number + 1} extent_count = 1"
        f' type = "striped" stripe_count = 1 stripes = ["pv0", 0] }} }}\n'
        for number, (below, name) in enumerate(pairs)
    )
    problem = group_of(segments)["v199"].problem
    assert problem is not None
    assert "too many parts" in problem


def test_snapshots_of_snapshots_without_end() -> None:
    names = [f"v{number}" for number in range(400)]
    volumes = [volume(name, 1, "pv0") for name in names]
    volumes += [
        f's{name} {{ id = "s{name}" status = [] segment1 {{ start_extent = 0 extent_count = 1'
        f' type = "snapshot" chunk_size = 8 origin = "{origin}" cow_store = "{name}" }} }}\n'
        for origin, name in pairwise(names)
    ]
    found = group_of("".join(volumes))
    assert found["v1"].problem is None
    problem = found["v399"].problem
    assert problem is not None
    assert "too many others" in problem


class Huge(BytesReader):
    """The header of a snapshot's store, and 8 EiB of zeros after it."""

    def __init__(self) -> None:
        super().__init__(struct.pack("<IIII", MAGIC, 1, 1, 1))
        self.size = 1 << 63

    def try_read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length]).ljust(length, b"\0")

    async def read(self, offset: int, length: int) -> bytes:
        return self.try_read(offset, length)


def test_the_table_of_a_huge_store_takes_no_memory_before_it_is_read() -> None:
    assert read_exceptions_of(Huge()) == []


def read_exceptions_of(store: Huge) -> list[object]:
    """Return what of a snapshot is in its store."""
    found = run_sync(read_exceptions(store))
    return [piece for piece in found.pieces(0, 1 << 20) if piece.source]
