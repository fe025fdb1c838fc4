"""Security descriptors and the other attributes of ntfs-3g's own, against ntfs-3g's answers."""

from __future__ import annotations

import random
import stat
from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs_described import DESCRIBED, NAMES, build_described
from tests.support.parsers.ntfs.reading import FileReader
from tests.system.parsers.ntfs.test_walk import path_attrs
from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.ntfs import NtfsOptions, UserMap, open_ntfs, parse_user_map
from vmount.parsers.ntfs.security_descriptor import MAX_SIZE, decode_descriptor
from vmount.parsers.ntfs.view_index import decode_view_node
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

    from fixtures.ntfs_described import Described
    from vmount.parsers.model import Ino
    from vmount.parsers.ntfs import NtfsFilesystem

BY_SINGLE_RIGHTS = {
    f"{kind}/{number:03}"
    for kind in ("files", "directories")
    for number in range(3, 99)
    # The right to take ownership, which makes a group the owner to ntfs-3g; and "all rights", which
    # Windows never leaves as it is and ntfs-3g takes for none.
    if number not in (61, 87, 88, 89)
}
"""Descriptors that differ in the one right that somebody has."""


@pytest.fixture(scope="module")
def described(folder: Path) -> Described:
    return build_described(folder)


def ino_of(filesystem: NtfsFilesystem, path: str) -> Ino:
    return path_attrs(filesystem, path.encode()).ino if path else filesystem.root


@pytest.mark.requirement("R17")
def test_attributes_are_byte_for_byte_those_of_ntfs3g(described: Described) -> None:
    reader = FileReader(described.image)
    filesystem = run_sync(open_ntfs(reader))
    seen = set()
    for path, expected in described.xattrs.items():
        ino = ino_of(filesystem, path)
        for short in NAMES:
            name = f"system.{short}"
            value = run_sync(filesystem.hidden_xattr(ino, name.encode()))
            assert value == expected.get(name), (path, name)
            seen.add((short, value is None))
        listed = sorted(name.decode() for name in run_sync(filesystem.xattrs(ino)))
        assert listed == described.listed[path]
    assert {short for short, is_missing in seen if not is_missing} == set(NAMES)
    values = {row["system.ntfs_acl"] for row in described.xattrs.values()}
    assert len(values) > 2 * DESCRIBED - 120
    assert run_sync(filesystem.hidden_xattr(ino, b"system.ntfs_nothing")) is None
    reader.close()


def test_owners_and_modes_are_those_that_ntfs3g_shows(described: Described) -> None:
    reader = FileReader(described.image)
    users = parse_user_map(described.mapping.read_text().splitlines())
    filesystem = run_sync(open_ntfs(reader, NtfsOptions(users=users)))
    compared = 0
    for path, expected in described.owners.items():
        if not (path.startswith("modes/") or path in BY_SINGLE_RIGHTS):
            # Of lists as no program writes them ntfs-3g's reading depends on what it read before.
            continue
        attrs = run_sync(filesystem.attrs(ino_of(filesystem, path)))
        assert (attrs.uid, attrs.gid, stat.S_IMODE(attrs.mode)) == expected, path
        compared += 1
    assert compared > 1000
    for entry in run_sync(filesystem.listdir(ino_of(filesystem, "modes/1001-1100 files"))):
        assert entry.attrs == run_sync(filesystem.attrs(entry.ino))
    reader.close()


def test_without_a_map_users_go_by_their_numbers_in_windows(described: Described) -> None:
    reader = FileReader(described.image)
    filesystem = run_sync(open_ntfs(reader, NtfsOptions(users=UserMap())))
    for path, expected in {
        "modes/1001-1100 files/764": (1001, 1100),
        "modes/1002-1100 directories/764": (1002, 1100),
        "modes/1001-0 files/764": (1001, 0),
        "plain": (0, 0),
    }.items():
        attrs = run_sync(filesystem.attrs(ino_of(filesystem, path)))
        assert (attrs.uid, attrs.gid) == expected
    reader.close()


@pytest.mark.parametrize("line", ["x", "1:2", "::S-1-5-21-1-2-3-4", "a:1:S-1-5-18", "1:1:S-1-5"])
def test_user_maps_that_are_none(line: str) -> None:
    with pytest.raises(ValueError, match="line 2: "):
        parse_user_map(["# users", line])


def test_a_descriptor_that_cannot_be_read_gives_rights_to_nobody(described: Described) -> None:
    image = described.image.read_bytes()
    value = described.xattrs["modes/1001-1100 files/764"]["system.ntfs_acl"]
    filesystem = run_sync(
        open_ntfs(
            BytesReader(image.replace(value, bytes(len(value)))), NtfsOptions(users=UserMap())
        )
    )
    attrs = run_sync(filesystem.attrs(ino_of(filesystem, "modes/1001-1100 files/764")))
    assert (attrs.uid, attrs.gid, attrs.mode) == (0, 0, stat.S_IFREG | 0o700)


def test_what_is_shared_is_read_once(described: Described) -> None:
    reader = FileReader(described.image)
    filesystem = run_sync(open_ntfs(reader))
    inos = [ino_of(filesystem, f"attributes/object {number}") for number in range(40)]
    before = reader.reads
    for ino in inos:
        run_sync(filesystem.hidden_xattr(ino, b"system.ntfs_acl"))
    assert reader.reads - before <= 5
    reader.close()


def test_a_damaged_descriptor_is_read_from_its_copy_or_refused(described: Described) -> None:
    image = bytearray(described.image.read_bytes())
    value = described.xattrs["files/000"]["system.ntfs_acl"]
    places = []
    at = image.find(value)
    while at >= 0:
        places.append(at)
        at = image.find(value, at + 1)
    # ntfs-3g writes each twice; files and directories share it.
    assert len(places) == 2
    for place, expected in zip(places, (value, None), strict=True):
        image[place + 30] ^= 0x40
        filesystem = run_sync(open_ntfs(BytesReader(bytes(image))))
        ino = ino_of(filesystem, "files/000")
        if expected is None:
            with pytest.raises(Corrupt, match="hash of a security descriptor"):
                run_sync(filesystem.hidden_xattr(ino, b"system.ntfs_acl"))
        else:
            assert run_sync(filesystem.hidden_xattr(ino, b"system.ntfs_acl")) == expected


@pytest.mark.requirement("R62")
def test_damage_of_the_descriptors_is_told_once_a_volume(
    described: Described, caplog: pytest.LogCaptureFixture
) -> None:
    image = bytearray(described.image.read_bytes())
    paths = [f"files/{number:03}" for number in range(6)]
    for value in {described.xattrs[path]["system.ntfs_acl"] for path in paths}:
        at = image.find(value)
        while at >= 0:
            image[at + 30] ^= 0x40
            at = image.find(value, at + 1)
    filesystem = run_sync(open_ntfs(BytesReader(bytes(image)), NtfsOptions(users=UserMap())))
    for path in paths:
        attrs = run_sync(filesystem.attrs(ino_of(filesystem, path)))
        assert (attrs.uid, stat.S_IMODE(attrs.mode) & 0o077) == (0, 0) or stat.S_ISLNK(attrs.mode)
    (record,) = caplog.records
    assert filesystem.info.uuid in record.getMessage()
    assert "security descriptors cannot be read" in record.getMessage()


def test_without_its_index_the_descriptors_are_found_by_their_numbers(described: Described) -> None:
    image = bytearray(described.image.read_bytes())
    # Each block of $SII has entries whose keys are numbers of descriptors; so has its root.
    name = "$SII".encode("utf-16-le")
    broken = 0
    for place in _places(bytes(image), name):
        collation = image.find(bytes.fromhex("0000000010000000"), place, place + 64)
        if collation > 0:
            image[collation + 4] ^= 0xFF
            broken += 1
    assert broken
    filesystem = run_sync(open_ntfs(BytesReader(bytes(image))))
    for path, expected in described.xattrs.items():
        value = run_sync(filesystem.hidden_xattr(ino_of(filesystem, path), b"system.ntfs_acl"))
        assert value == expected["system.ntfs_acl"], path


def test_damage_costs_no_more_than_an_error(described: Described) -> None:
    image = described.image.read_bytes()
    chance = random.Random(5)
    clean = run_sync(open_ntfs(BytesReader(image)))
    paths = chance.sample(sorted(described.xattrs), 12)
    inos = [ino_of(clean, path) for path in paths]
    marks = [
        place
        for magic in (b"INDX", "$SII".encode("utf-16-le"), "$O".encode("utf-16-le"))
        for place in _places(image, magic)
    ]
    for _ in range(25):
        damaged = bytearray(image)
        for _ in range(chance.randrange(1, 12)):
            place = chance.choice(marks) + chance.randrange(-64, 600)
            damaged[place] = chance.randrange(256)
        try:
            filesystem = run_sync(open_ntfs(BytesReader(bytes(damaged))))
        except ParseError:
            continue
        for ino in inos:
            for short in NAMES:
                try:
                    run_sync(filesystem.hidden_xattr(ino, f"system.{short}".encode()))
                except (ParseError, FileNotFoundError):
                    continue


def test_descriptors_that_lie_are_refused() -> None:
    chance = random.Random(6)
    good = bytes.fromhex(
        "010004801400000024000000000000003400000001020000000000052000000020020000"
        "010200000000000520000000200200000200 1c000100000000031400ff011f00010100000000000100000000"
    )
    assert str(decode_descriptor(good).owner) == "S-1-5-32-544"
    for length in range(len(good)):
        with pytest.raises(Corrupt):
            decode_descriptor(good[:length])
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            found = decode_descriptor(bytes(bad))
        except Corrupt:
            continue
        assert len(found.dacl or ()) <= MAX_SIZE // 8
    with pytest.raises(Corrupt):
        decode_view_node(good, 0, len(good), 0)


def _places(image: bytes, magic: bytes) -> list[int]:
    found = []
    at = image.find(magic)
    while at >= 0:
        found.append(at)
        at = image.find(magic, at + 1)
    return found
