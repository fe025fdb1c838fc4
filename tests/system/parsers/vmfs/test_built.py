"""What the LUNs lack, added by the builder, as the parser and the outside readers see it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dissect.vmfs import VMFS, lvm

from tests.support.parsers.vmfs.builder import MIB, ZEROED, Builder
from tests.support.parsers.vmfs.readers import (
    FileReader,
    digest,
    digest_file,
    mounted,
    open_files,
    read_data,
    read_stream,
    windows,
)
from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.model import Runs
from vmount.parsers.reader import Span, run_sync
from vmount.parsers.vmfs.descriptor import Addressing, Type
from vmount.parsers.vmfs.discover import read_member
from vmount.parsers.vmfs.filesystem import Vmfs, open_vmfs

BLOCKS = 1024
MANY = 5000


@dataclass
class Built:
    name: str
    paths: list[Path]
    files: list[str]


@pytest.fixture(scope="module", params=["vmfs5", "vmfs6"])
def built(
    request: pytest.FixtureRequest,
    luns: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Built:
    name: str = request.param
    folder = tmp_path_factory.mktemp("built")
    builder = Builder(luns[name], folder)
    files = make_files(builder)
    spread = [list(files.items())[number % len(files)] for number in range(MANY)]
    many = builder.directory(
        [(f"n{number:05}", address, Type.FILE) for number, (_, address) in enumerate(spread)]
    )
    entries = [(file, address, Type.FILE) for file, address in files.items()]
    root = builder.directory([*entries, ("many", many, Type.DIRECTORY)])
    builder.add_to_root("built", root)
    builder.close()
    return Built(name, builder.paths, list(files))


def make_files(builder: Builder) -> dict[str, int]:
    order = random.Random(1).sample(range(BLOCKS), BLOCKS)
    composite = {slot: f"{slot:08}".encode() * 64 for slot in order}
    ends = {0: b"0" * 512, 1023: b"q" * 512, 1024: b"r" * 512, 8191: b"s" * 512, 8192: b"t" * 512}
    last = {(2 << 40) // MIB - 1: b"e" * MIB}
    files = {
        "sub-block": builder.in_sub_block(b"sub-block " * 500),
        "zeroed": builder.file(
            3 * MIB, {0: b"a" * 512, 1: ZEROED, 2: b"c" * 512}, Addressing.FILE_BLOCK
        ),
        "composite": builder.file(BLOCKS * MIB, composite, Addressing.POINTER_BLOCK),
        "pb2": builder.file(
            100 * MIB + 5, {0: b"x" * 600, 100: b"zzzzz"}, Addressing.POINTER_BLOCK_2
        ),
        "double": builder.file(2 << 40, ends | last, Addressing.DOUBLE_POINTER_BLOCK),
    }
    if builder.vmfs6:
        builder.write(4 * 512 * MIB + 5 * MIB, b"large" * 100)
        builder.write(5 * 512 * MIB - 512, b"L" * 512)
        large: dict[int, Any] = dict.fromkeys(range(512), builder.large_block(4))
        files["large"] = builder.file(
            1100 * MIB, large | {1030: b"v" * 512}, Addressing.POINTER_BLOCK
        )
        files["whole"] = builder.file(3 << 40, ends | last, Addressing.DOUBLE_POINTER_BLOCK)
    return files


def folder(filesystem: Vmfs) -> int:
    attrs = run_sync(filesystem.lookup(filesystem.root, b"built"))
    assert attrs is not None
    return attrs.ino


@pytest.fixture
def dissect(built: Built) -> Iterator[Any]:
    """The folder "built" by dissect.vmfs."""
    files = [path.open("rb") for path in built.paths]
    # By its list: the builder does not put names into hash tables.
    yield VMFS(lvm.LVM(list(files)).volumes[0].open()).root.listdir()["built"].fd
    for file in files:
        file.close()


@pytest.mark.requirement("R26")
@pytest.mark.mount
def test_outside_readers_agree_on_every_way_of_addressing(
    built: Built, dissect: Any, tmp_path: Path
) -> None:
    """dissect.vmfs agrees everywhere. vmfs-tools and vmfs6-tools do but for what they do not know."""
    filesystem = open_files(built.paths)
    theirs = dissect.listdir()
    differ = set()
    with mounted(built.name, built.paths, tmp_path) as mountpoint:
        for name in built.files:
            attrs = run_sync(filesystem.lookup(folder(filesystem), name.encode()))
            assert attrs is not None
            data = run_sync(filesystem.data(attrs.ino))
            spans = windows(data, data.size)
            content = digest(read_data(filesystem, data, span) for span in spans)
            stream = theirs[name].fd.open()
            assert content == digest(read_stream(stream, span) for span in spans), name
            with (mountpoint / "built" / name).open("rb", buffering=0) as file:
                if content != digest_file(file.fileno(), spans):
                    differ.add(name)
    # vmfs-tools know neither double pointer blocks nor second pointer blocks; vmfs6-tools do not know
    # the latter, and give what was in a block before it was to be zeroed.
    assert differ == ({"double", "pb2"} if built.name == "vmfs5" else {"zeroed", "pb2"})


def test_a_block_to_be_zeroed_reads_as_zeros(built: Built) -> None:
    filesystem = open_files(built.paths)
    attrs = run_sync(filesystem.lookup(folder(filesystem), b"zeroed"))
    assert attrs is not None
    data = run_sync(filesystem.data(attrs.ino))
    assert isinstance(data.layout, Runs)
    assert [run.start is None for run in data.layout.runs] == [False, True, False]
    assert read_data(filesystem, data, Span(MIB - 1, 4)) == bytes(4)


def test_scattered_blocks_are_all_where_they_were_put(built: Built) -> None:
    filesystem = open_files(built.paths)
    attrs = run_sync(filesystem.lookup(folder(filesystem), b"composite"))
    assert attrs is not None
    readers = [FileReader(path) for path in built.paths]
    runs = run_sync(filesystem.device_runs(attrs.ino))
    assert sum(run.length for run in runs) == BLOCKS * MIB
    for run in runs:
        assert run.device == 1
        for offset in range(0, run.length, MIB):
            content = run_sync(readers[1].read(run.start + offset, 8))
            assert int(content) == (run.offset + offset) // MIB
    assert readers[0].reads == 0


def test_a_directory_of_5000_is_listed_with_few_reads(built: Built, dissect: Any) -> None:
    readers = [FileReader(path) for path in built.paths]
    filesystem = run_sync(open_vmfs(readers))
    attrs = run_sync(filesystem.lookup(folder(filesystem), b"many"))
    assert attrs is not None
    before = sum(reader.reads for reader in readers)
    listing = run_sync(filesystem.listdir(attrs.ino))
    assert sum(reader.reads for reader in readers) - before <= 8
    theirs = [name for name in dissect.listdir()["many"].fd.listdir() if name not in (".", "..")]
    assert [os.fsdecode(entry.name) for entry in listing] == theirs
    assert len(theirs) == MANY


def test_extents_may_be_given_in_any_order(built: Built) -> None:
    for paths, devices in ((built.paths, [0, 1]), (built.paths[::-1], [1, 0])):
        filesystem = open_files(paths)
        assert [extent.device for extent in filesystem.extents] == devices
        attrs = run_sync(filesystem.lookup(folder(filesystem), b"sub-block"))
        assert attrs is not None
        assert attrs.size == 5000


def test_a_missing_extent_is_named(built: Built) -> None:
    first, second = (FileReader(path) for path in built.paths)
    with pytest.raises(Unsupported, match=r"1 of its 2 extents; its devices .*naa\.600000000001"):
        run_sync(open_vmfs([first]))
    with pytest.raises(Unsupported, match="missing: physical extents 0 to 7"):
        run_sync(open_vmfs([second]))
    with pytest.raises(Unsupported, match="given twice"):
        run_sync(open_vmfs([first, first]))
    one, other = run_sync(read_member(first)), run_sync(read_member(second))
    assert one.volume_uuid == other.volume_uuid
    assert (one.device_count, other.uuid, other.label) == (2, "", "")


def test_extents_of_other_datastores_are_refused(built: Built, luns: dict[str, Path]) -> None:
    foreign = luns["vmfs6" if built.name == "vmfs5" else "vmfs5"]
    with pytest.raises(Unsupported, match="different VMFS volumes"):
        open_files([built.paths[0], foreign])


def test_a_device_that_shrank_is_refused(built: Built, tmp_path: Path) -> None:
    short = tmp_path / "short.img"
    short.write_bytes(b"")
    with built.paths[1].open("rb") as source, short.open("wb") as target:
        target.write(source.read(4 * MIB))
    with pytest.raises(Corrupt, match="read beyond the end"):
        open_files([built.paths[0], short])
