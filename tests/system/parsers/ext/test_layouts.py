"""The fast decoders and the declarations they come from."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.parsers.errors import ParseError
from vmount.parsers.ext.checksum import crc32c
from vmount.parsers.ext.directory import ENTRY_HEADER
from vmount.parsers.ext.extent import EXTENT, HEADER, INDEX, decode_node
from vmount.parsers.ext.fast_commit import decode_fast_commits
from vmount.parsers.ext.group import GROUP_DESCRIPTOR
from vmount.parsers.ext.hash_tree import ROOT_INFO
from vmount.parsers.ext.inode import BASE_FIELDS, EXTRA_FIELDS, INODE
from vmount.parsers.ext.name_hash import HashVersion, name_hash
from vmount.parsers.ext.superblock import SUPERBLOCK
from vmount.parsers.ext.xattr import BLOCK_HEADER, ENTRY
from vmount.parsers.layout import Layout
from vmount.parsers.model import Run
from vmount.parsers.runs import RunList

LAYOUTS = (
    SUPERBLOCK,
    GROUP_DESCRIPTOR,
    INODE,
    HEADER,
    EXTENT,
    INDEX,
    ENTRY_HEADER,
    ROOT_INFO,
    BLOCK_HEADER,
    ENTRY,
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@given(data=st.data())
def test_picker_and_construct_agree(layout: Layout, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    names = [field.name for field in layout.fields if not field.format.endswith("x")]
    parsed = layout.parse(raw)
    assert layout.picker(*names).unpack_from(raw) == _flat(parsed, names)


@given(st.binary(min_size=INODE.size, max_size=INODE.size))
def test_inode_fields_are_declared_in_order(raw: bytes) -> None:
    names = [*BASE_FIELDS, *EXTRA_FIELDS]
    assert INODE.picker(*names).unpack_from(raw) == _flat(INODE.parse(raw), names)


def test_sizes_are_the_specifications() -> None:
    sizes = {layout.name: layout.size for layout in LAYOUTS}
    assert sizes["ext superblock"] == 1024
    assert sizes["ext4 group descriptor"] == 64
    assert sizes["ext4 inode"] == 160
    assert {HEADER.size, EXTENT.size, INDEX.size} == {12}
    assert INODE.offset("extra_isize") == 128
    assert SUPERBLOCK.offset("checksum_seed") == 0x270


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 65535), st.integers(0, 2**48 - 1)),
        max_size=340,
    )
)
def test_extents_decode_to_what_was_built(extents: list[tuple[int, int, int]]) -> None:
    data = HEADER.build(magic=0xF30A, entries=len(extents), maximum=340)
    for block, length, start in extents:
        low, high = start & 0xFFFFFFFF, start >> 32
        data += EXTENT.build(block=block, length=length, start_low=low, start_high=high)
    node = decode_node(data.ljust(4096, b"\0"), 0)
    assert [tuple(extent) for extent in node.extents] == [
        (block, length, start) if length <= 32768 else (block, length - 32768, None)
        for block, length, start in extents
    ]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([1]), st.binary(min_size=16, max_size=16)),
            st.tuples(st.sampled_from([2]), st.binary(min_size=12, max_size=12)),
            st.tuples(st.sampled_from([3, 4, 5]), st.binary(min_size=8, max_size=40)),
            st.tuples(st.just(6), st.binary(min_size=130, max_size=300)),
            st.tuples(st.integers(0, 12), st.binary(max_size=40)),
        ),
        max_size=12,
    ),
    st.booleans(),
)
@pytest.mark.requirement("R22")
def test_fast_commits_of_any_bytes_give_values_or_parse_errors(
    tags: list[tuple[int, bytes]], whole: bool
) -> None:
    data = b""
    for kind, value in [(9, struct.pack("<II", 0, 7)), *tags]:
        data += struct.pack("<HH", kind, len(value)) + value
    data += struct.pack("<HHI", 8, 8, 7)
    data += struct.pack("<I", crc32c(0, data) if whole else 1)
    try:
        commits = decode_fast_commits([data.ljust(8192, b"\xff")], 7)
    except ParseError:
        return
    for ino in commits.inodes:
        for size in (128, 256):
            merged = commits.merge_inode(ino, bytes(size), 1024)
            assert merged is not None
            assert len(merged) == size
    for ino in commits.ranges:
        size = 100_000
        base = RunList.of((Run(0, 4096, 8192), Run(4096, size - 4096, None)))
        with contextlib.suppress(ParseError):
            runs = commits.apply_ranges(ino, base, 1024, lambda block, _count: block * 1024)
            ends = [0, *(run.offset + run.length for run in runs)]
            assert [run.offset for run in runs] == ends[:-1]
            assert ends[-1] == size


@pytest.mark.parametrize("version", ["legacy", "half_md4", "tea"])
def test_name_hash_is_that_of_debugfs(version: str) -> None:
    """debugfs takes names on a line: they are ASCII here; others are covered by lookups in volumes."""
    names = [("x" * length + f"name{length}")[: length + 1] for length in range(0, 254, 3)]
    names += [f"a rather long name, number {index:05}" for index in range(40)]
    seed = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
    raw_seed = bytes.fromhex(seed.replace("-", ""))
    script = "\n".join(f'dx_hash -h {version} -s {seed} "{name}"' for name in names)
    done = subprocess.run(
        ["debugfs", "-f", "-"], input=script, capture_output=True, text=True, check=True
    )
    hashes = [
        tuple(int(part.split()[0].rstrip(")"), 16) for part in line.split("0x")[1:])
        for line in done.stdout.splitlines()
        if line.startswith("Hash of")
    ]
    assert len(hashes) == len(names)
    kind = HashVersion[version.upper()]
    assert [name_hash(kind, name.encode(), raw_seed) for name in names] == hashes


def test_hash_of_bytes_over_127_depends_on_their_sign() -> None:
    name = "système".encode()
    for version in (HashVersion.LEGACY, HashVersion.HALF_MD4, HashVersion.TEA):
        unsigned = HashVersion(version + 3)
        assert name_hash(version, name, bytes(16)) != name_hash(unsigned, name, bytes(16))
        assert name_hash(version, b"ascii", bytes(16)) == name_hash(unsigned, b"ascii", bytes(16))


def _flat(parsed: Any, names: list[str]) -> tuple[Any, ...]:
    values: list[Any] = []
    for name in names:
        value = parsed[name]
        if isinstance(value, (bytes, int)):
            values.append(value)
        else:
            values += list(value)
    return tuple(values)
