"""Damage: one clear line, for the object that is damaged only."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.vmdk import Disk
from tests.support.parsers.vmdk import build
from tests.support.parsers.vmdk.support import DictOpener, flat, open_path
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.reader import run_sync
from vmount.parsers.vmdk import cowd, sesparse, sparse
from vmount.parsers.vmdk.disk import VmdkDisk, open_vmdk

SECTOR = 512


def _open(**files: bytes) -> VmdkDisk:
    return run_sync(open_vmdk(DictOpener({"top": files.pop("top"), **files}), "top"))


def _text(line: str) -> bytes:
    return build.descriptor([line]).encode()


def _bytes(image: build.Image, folder: Path) -> bytearray:
    return bytearray(image.write(folder / "image").read_bytes())


def _hosted(folder: Path, *, redundant: bool = True) -> bytearray:
    text = build.descriptor(['RW 1024 SPARSE "x"'])
    grains = {n: bytes([n + 1]) * 65_536 for n in (0, 1, 7)}
    return _bytes(build.hosted(1024, grains, text, redundant=redundant), folder)


def _put(data: bytearray, offset: int, value: int, size: int = 4) -> None:
    data[offset : offset + size] = value.to_bytes(size, "little")


def _tables(data: bytearray) -> tuple[int, int]:
    """Return where the two copies of the only grain table are."""
    header = sparse.parse_header(data)
    spare = header.redundant_directory or header.directory
    found = [int.from_bytes(data[at * SECTOR : at * SECTOR + 4], "little") * SECTOR
             for at in (header.directory, spare)]  # fmt: skip
    return found[0], found[1]


@pytest.mark.parametrize("data", [b"", b"KD", bytes(4096), b"\x7fELF" + bytes(600), b"KDM" * 99])
def test_what_is_no_vmdk_is_not_recognised(data: bytes) -> None:
    with pytest.raises(NotRecognised, match="not a VMDK"):
        _open(top=data)


def test_a_zeroed_header_of_an_extent_is_damage(folder: Path) -> None:
    for kind in ("SPARSE", "VMFSSPARSE", "SESPARSE"):
        with pytest.raises(Corrupt, match=r"(?i)x: magic of a .*sparse extent"):
            _open(top=_text(f'RW 8 {kind} "x"'), x=bytes(4096))


@pytest.mark.parametrize("length", [4, 100, 511, 600, 3000])
def test_a_sparse_file_cut_within_its_metadata(folder: Path, length: int) -> None:
    with pytest.raises(Corrupt, match="top: "):
        _open(top=bytes(_hosted(folder)[:length]))


def test_a_sparse_file_cut_within_its_data_costs_the_grains_that_are_gone(folder: Path) -> None:
    data = _hosted(folder)
    disk = _open(top=bytes(data[:-1]))
    with pytest.raises(Corrupt, match="grain for 0x70000 of the extent outside the data of its"):
        run_sync(disk.read(1024 * SECTOR - 1, 1))
    with pytest.raises(Corrupt):
        disk.try_read(1024 * SECTOR - 100_000, 100_000)
    assert bytes(run_sync(disk.read(0, 131_072))) == b"\1" * 65_536 + b"\2" * 65_536


@pytest.mark.parametrize("entry", [1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_entry_that_points_outside_is_taken_from_the_other_table(
    folder: Path, entry: int
) -> None:
    data = _hosted(folder)
    first, second = _tables(data)
    _put(data, first + 4, entry)
    disk = _open(top=bytes(data))
    assert bytes(run_sync(disk.read(65_536, 65_536))) == b"\2" * 65_536
    assert "entries of its redundant copy are used" in disk.warnings[0]
    _put(data, second + 4, entry)
    disk = _open(top=bytes(data))
    with pytest.raises(Corrupt, match="top: grain for 0x10000 of the extent outside"):
        run_sync(disk.read(65_536 + 512, 100))
    assert bytes(run_sync(disk.read(0, 65_536))) == b"\1" * 65_536
    assert bytes(run_sync(disk.read(131_072, 65_536))) == bytes(65_536)


def test_the_redundant_directory_is_used_where_the_first_is_wiped(folder: Path) -> None:
    intact = _open(top=bytes(_hosted(folder)))
    expected = bytes(run_sync(intact.read(0, intact.size)))
    assert intact.warnings == ()
    header = sparse.parse_header(_hosted(folder))
    table, _ = _tables(_hosted(folder))
    outside = sparse.HEADER.offset("directory")
    wipes: list[Callable[[bytearray], None]] = [
        lambda data: _put(data, outside, 1 << 40, 8),
        lambda data: _put(data, header.directory * SECTOR, 0),
        lambda data: _put(data, header.directory * SECTOR, 0x70000000),
        lambda data: _put(data, table, 0, 2048),
    ]
    for wipe in wipes:
        data = _hosted(folder)
        wipe(data)
        disk = _open(top=bytes(data))
        assert bytes(run_sync(disk.read(0, disk.size))) == expected
        assert "redundant" in disk.warnings[0]


def test_an_empty_redundant_table_does_not_stand_in_for_a_damaged_one(folder: Path) -> None:
    data = _hosted(folder)
    _, spare = _tables(data)
    _put(data, spare, 0, 2048)
    intact = _open(top=bytes(data))
    assert bytes(run_sync(intact.read(0, 65_536))) == b"\1" * 65_536
    assert intact.warnings == ()
    header = sparse.parse_header(data)
    assert header.redundant_directory is not None
    _put(data, header.directory * SECTOR, 0x70000000)
    for entry in (spare // SECTOR, 0, 0x70000000):
        _put(data, header.redundant_directory * SECTOR, entry)
        disk = _open(top=bytes(data))
        with pytest.raises(Corrupt, match="directory entry points beyond the end of the file"):
            run_sync(disk.read(0, 1))


def test_a_redundant_directory_outside_the_file_is_told_of(folder: Path) -> None:
    data = _hosted(folder)
    _put(data, sparse.HEADER.offset("redundant_directory"), 1 << 40, 8)
    disk = _open(top=bytes(data))
    assert "redundant grain directory lies outside" in disk.warnings[0]
    assert bytes(run_sync(disk.read(0, 65_536))) == b"\1" * 65_536


def test_cowd_headers(folder: Path) -> None:
    for field, value, error, message in (
        ("version", 3, Unsupported, "COWD extent of version 3"),
        ("directory_entries", 0, Corrupt, "entries in the grain directory"),
        ("grain_size", 3, Corrupt, "grain size"),
        ("directory", 1 << 30, Corrupt, "grain directory outside the file"),
    ):
        data = _bytes(build.cow(1024, {0: bytes(512)}), folder)
        _put(data, cowd.HEADER.offset(field), value)
        with pytest.raises(error, match=f"x: .*{message}"):
            _open(top=_text('RW 1024 VMFSSPARSE "x"'), x=bytes(data))
    data = _bytes(build.cow(1024, {0: bytes(512)}), folder)
    _put(data, cowd.HEADER_SECTORS * SECTOR, 2)
    disk = _open(top=_text('RW 1024 VMFSSPARSE "x"'), x=bytes(data))
    with pytest.raises(Corrupt, match="directory entry points into the header"):
        run_sync(disk.read(0, 1))


def test_without_a_redundant_directory_a_bad_one_is_refused(folder: Path) -> None:
    data = _hosted(folder, redundant=False)
    _put(data, sparse.HEADER.offset("directory"), 1 << 40, 8)
    with pytest.raises(Corrupt, match="top: grain directory outside the file"):
        _open(top=bytes(data))
    data = _hosted(folder, redundant=False)
    _put(data, sparse.parse_header(data).directory * SECTOR, 0x70000000)
    disk = _open(top=bytes(data))
    with pytest.raises(Corrupt, match="directory entry points beyond the end of the file"):
        run_sync(disk.read(0, 1))


def _header(field: str, value: int, size: int) -> Callable[[bytearray], None]:
    return lambda data: _put(data, sparse.HEADER.offset(field), value, size)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_header("version", 4, 4), Unsupported, "sparse extent of version 4"),
        (_header("grain_size", 0, 8), Corrupt, "grain size"),
        (_header("grain_size", 24, 8), Corrupt, "grain size"),
        (_header("grain_size", 1 << 20, 8), Corrupt, "grain size"),
        (_header("table_entries", 0, 4), Corrupt, "entries in a grain table"),
        (_header("table_entries", 1 << 30, 4), Corrupt, "entries in a grain table"),
        (_header("capacity", 1000, 8), Corrupt, "expected 1024 sectors, found 1000"),
        (_header("newlines", 0x0A0D0A0A, 4), Corrupt, "text-mode transfer"),
        (_header("compression", 1, 2), Corrupt, "contradict"),
        (_header("compression", 2, 2), Unsupported, "grain compression 2"),
        (_header("descriptor_size", 1 << 40, 8), Corrupt, "descriptor too long"),
        (_header("descriptor_offset", 1 << 40, 8), Corrupt, "read beyond the end"),
        (_header("descriptor_offset", 0, 8), Unsupported, "an extent without its descriptor"),
        (_header("descriptor_offset", 3, 8), Corrupt, "without the descriptor"),
        (_header("directory", sparse.AT_END, 8), Corrupt, "without its footer"),
    ],
)
def test_headers(
    folder: Path, change: Callable[[bytearray], None], error: type[ParseError], message: str
) -> None:
    data = _hosted(folder)
    change(data)
    with pytest.raises(error, match=message) as caught:
        _open(top=bytes(data))
    assert str(caught.value).startswith("top: ")
    assert "\n" not in str(caught.value)


def test_a_disk_that_was_not_closed_is_told_of(folder: Path) -> None:
    data = _hosted(folder)
    data[sparse.HEADER.offset("unclean")] = 1
    assert "was not closed" in _open(top=bytes(data)).warnings[0]


@pytest.mark.requirement("R23")
def test_a_flat_file_shorter_than_its_extent_is_refused_naming_both_sizes() -> None:
    message = r"x: flat file shorter than its extent: expected at least 5120 bytes \(4096 from 1024 on\), found 5119"
    with pytest.raises(Corrupt, match=message):
        _open(top=_text('RW 8 FLAT "x" 2'), x=bytes(5119))
    assert _open(top=_text('RW 8 FLAT "x" 2'), x=bytes(5120)).size == 4096


def test_a_missing_extent_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="web-f001"):
        _open(top=_text('RW 8 FLAT "web-f001.vmdk" 0'))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('RW 8 VMFSRDM "x-rdm.vmdk"', "VMFSRDM extent on a device"),
        ('RW 8 VMFSRAW "x-rdmp.vmdk"', "VMFSRAW extent on a device"),
        (r'RW 8 FLAT "\\.\PhysicalDrive0" 0 partitionUUID 12', "FLAT extent on a device"),
        ('RW 8 FLAT "/dev/sda" 0', "FLAT extent on a device"),
        ('RW 8 VSANSPARSE "x"', "extent type VSANSPARSE"),
        ('RW 8 SPARSE "x" 63', "SPARSE extent that starts within its file"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(line: str, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        _open(top=_text(line), x=bytes(4096))


def test_an_extent_without_its_descriptor_is_refused(folder: Path) -> None:
    lone = [
        build.hosted(1024, {}),
        build.cow(1024, {}),
        build.space_efficient(1024, {0: bytes(4096)}),
    ]
    for image in lone:
        with pytest.raises(Unsupported, match="open the descriptor file that names it"):
            _open(top=bytes(_bytes(image, folder)))


def test_compressed_grains_that_are_damaged(folder: Path) -> None:
    source = random.Random(1)
    grains = {n: source.randbytes(65_536) for n in range(3)}
    text = build.descriptor(['RDONLY 384 SPARSE "x"'])
    intact = _bytes(build.streamed(384, grains, text), folder)
    where = 128 * SECTOR
    cases: list[tuple[int, bytes, str]] = [
        (
            where,
            b"\x80",
            "compressed grain with another sector number: expected sector 0, found 0x80",
        ),
        (where + 8, b"\xff\xff\xff\xff", "length of a compressed grain"),
        (where + 8, b"\x00\x01\x00\x00", "length of the compressed grain for sector 0"),
        (where + 12, b"garbage!", "compressed grain for sector 0: Error -3"),
        (where + 40_000, b"\x00" * 4, "compressed grain for sector 0: Error -3"),
    ]
    for offset, change, message in cases:
        data = bytearray(intact)
        data[offset : offset + len(change)] = change
        disk = _open(top=bytes(data))
        with pytest.raises(Corrupt, match=f"top at 0x10000: {message}"):
            run_sync(disk.read(100, 1))
        assert bytes(run_sync(disk.read(65_536, 131_072))) == grains[1] + grains[2]
        with pytest.raises(Corrupt, match=message):
            run_sync(disk.read(0, disk.size))
    with pytest.raises(Corrupt, match="stream without its footer: cut off"):
        _open(top=bytes(intact[:-SECTOR]))
    short = build.streamed(384, {0: bytes(1000)}, text)
    with pytest.raises(Corrupt, match="expected 65536 to 65536 bytes, found 1000"):
        run_sync(_open(top=bytes(_bytes(short, folder))).read(0, 1))
    bomb = build.streamed(384, {0: bytes(10 << 20)}, text)
    with pytest.raises(Corrupt, match="found 65537 or more"):
        run_sync(_open(top=bytes(_bytes(bomb, folder))).read(0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0x200000002}, "seSparse extent with version 0x200000002"),
        ({"grain_size": 16}, "seSparse extent with grain size 0x10"),
        ({"table_size": 8}, "seSparse extent with grain table size 0x8"),
        ({"flags": 1}, "seSparse extent with flags 0x1"),
        ({"reserved": [0, 0, 1, 0]}, "reserved fields"),
        ({"volatile_offset": 0}, "magic of the seSparse volatile header"),
        ({"volatile_offset": 1 << 50}, "read beyond the end"),
        ({"capacity": 100}, "extent smaller than its descriptor says"),
        ({"directory_offset": 1 << 50}, "grain directory outside the file"),
        ({"directory_size": 0}, "size of the grain directory"),
    ],
)
def test_sesparse_headers(folder: Path, change: dict[str, object], message: str) -> None:
    image = build.space_efficient(1 << 16, {0: bytes(4096)}, header=change)
    with pytest.raises(ParseError, match=message):
        _open(top=_text(f'RW {1 << 16} SESPARSE "x"'), x=bytes(_bytes(image, folder)))


def test_sesparse_entries_and_journal(folder: Path) -> None:
    grains: dict[int, bytes | None] = {0: b"a" * 4096, 1: b"b" * 4096}
    image = build.space_efficient(1 << 16, grains)
    header = sesparse.parse_header(_bytes(image, folder))
    table = header.tables_offset * SECTOR
    for entry in (1, 0x3 << 60 | 2 << 48, 0x3 << 60 | 1 << 40, 0x4 << 60, 0xF << 60):
        data = _bytes(image, folder)
        _put(data, table + 8, entry, 8)
        disk = _open(top=_text(f'RW {1 << 16} SESPARSE "x"'), x=bytes(data))
        with pytest.raises(Corrupt, match=f"unknown kind for 0x1000 .*found {entry:#x}"):
            run_sync(disk.read(4096, 1))
        assert bytes(run_sync(disk.read(0, 4096))) == b"a" * 4096
    for entry in (1, 0x1 << 60 | 1, 0x1 << 60 | 1 << 40, 0x2 << 60):
        data = _bytes(image, folder)
        _put(data, header.directory_offset * SECTOR, entry, 8)
        disk = _open(top=_text(f'RW {1 << 16} SESPARSE "x"'), x=bytes(data))
        with pytest.raises(Corrupt, match="grain directory entry"):
            run_sync(disk.read(0, 1))
        assert bytes(run_sync(disk.read(16 << 20, 4096))) == bytes(4096)
    data = _bytes(image, folder)
    _put(data, SECTOR + sesparse.VOLATILE.offset("replay_journal"), 1, 8)
    with pytest.raises(Unsupported, match="seSparse journal replay"):
        _open(top=_text(f'RW {1 << 16} SESPARSE "x"'), x=bytes(data))


def _samples(folder: Path) -> dict[str, dict[str, bytes]]:
    source = random.Random(2)
    few: dict[int, bytes | None] = {n: source.randbytes(4096) for n in range(0, 900, 90)}
    small = {n: source.randbytes(512) for n in range(0, 8192, 500)}
    large = {n: source.randbytes(65_536) for n in (0, 5, 513)}
    text = build.descriptor([f'RW {514 * 128} SPARSE "x"'])
    samples = {
        "hosted": {"top": _bytes(build.hosted(514 * 128, large, text), folder)},
        "stream": {"top": _bytes(build.streamed(514 * 128, large, text), folder)},
        "cowd": {
            "top": bytearray(_text('RW 8192 VMFSSPARSE "x"')),
            "x": _bytes(build.cow(8192, small), folder),
        },
        "sesparse": {
            "top": bytearray(_text('RW 8192 SESPARSE "x"')),
            "x": _bytes(build.space_efficient(8192, few), folder),
        },
    }
    return {name: {k: bytes(v) for k, v in files.items()} for name, files in samples.items()}


@pytest.mark.parametrize("name", ["hosted", "stream", "cowd", "sesparse"])
def test_mutations_give_a_value_or_an_error(folder: Path, name: str) -> None:
    files = _samples(folder)[name]
    source = random.Random(name)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        mutated = {key: bytearray(value) for key, value in files.items()}
        victim = mutated[source.choice(list(mutated))]
        for _ in range(source.randrange(1, 4)):
            # Most of the bytes are data; aim at what is not.
            at = source.randrange(min(len(victim), source.choice([100, 2048, 70_000, 1 << 30])))
            change = source.choice([b"\0", b"\xff", source.randbytes(1), source.randbytes(8)])
            victim[at : at + len(change)] = change
        if source.random() < 0.2:
            del victim[source.randrange(len(victim)) :]
        opener = DictOpener({key: bytes(value) for key, value in mutated.items()})
        try:
            disk = run_sync(open_vmdk(opener, "top"))
            for offset in (0, 5 * 65_536, disk.size // 2, max(disk.size - 70_000, 0)):
                length = min(70_000, disk.size - offset)
                assert len(run_sync(disk.read(offset, length))) == length
            outcomes["read"] += 1
        except (ParseError, FileNotFoundError) as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
        assert sum(len(file.reads) for file in opener.files.values()) < 200
    assert min(outcomes.values()) > 20, outcomes


def test_an_io_error_is_not_damage_and_passes(subformats: dict[str, Disk]) -> None:
    """A table that could not be read is read again, not remembered as gone."""
    disk = subformats["monolithicSparse"]
    opener = DictOpener({"top": disk.path.read_bytes()})
    opened = run_sync(open_vmdk(opener, "top"))
    reader = opener.files["top"]
    reader.fails = True
    with pytest.raises(OSError, match="the network is gone"):
        run_sync(opened.read(70 << 20, 4096))
    reader.fails = False
    expected = bytes(flat(disk.flat)[70 << 20 : (70 << 20) + 4096])
    assert bytes(run_sync(opened.read(70 << 20, 4096))) == expected
    assert open_path(disk.path).warnings == ()
