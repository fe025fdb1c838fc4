"""Damage: what it costs, and what stays readable. Places are found by debugfs."""

from __future__ import annotations

import random
import re
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from fixtures.ext import ExtFixture, debugfs
from tests.support.parsers.ext.support import MemorySource, resolve, run, walk_volume
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError
from vmount.parsers.ext.filesystem import ExtFilesystem, open_ext
from vmount.parsers.model import Runs

Volume = Callable[[str], ExtFixture]


class Patient:
    """A volume in memory to be damaged."""

    def __init__(self, fixture: ExtFixture) -> None:
        self._image = fixture.image
        self.data = bytearray(fixture.image.read_bytes())
        self.block_size: int = 1024 << struct.unpack_from("<I", self.data, 1024 + 24)[0]

    def flip(self, offset: int) -> None:
        self.data[offset] ^= 0x55

    def put(self, offset: int, value: bytes) -> None:
        self.data[offset : offset + len(value)] = value

    def open(self, limit: int = 10_000) -> ExtFilesystem:
        return run(open_ext(MemorySource(self.data, limit)))

    def inode(self, path: str) -> int:
        """Return the offset of a file's inode."""
        found = re.search(
            r"located at block (\d+), offset (0x[0-9a-f]+)", debugfs(self._image, f"imap {path}")
        )
        assert found
        block, offset = int(found[1]), int(found[2], 16)
        return block * self.block_size + offset

    def blocks(self, path: str) -> list[int]:
        """Return the offsets of a file's blocks."""
        lines = debugfs(self._image, f"blocks {path}").splitlines()
        return [int(word) * self.block_size for word in lines[-1].split()]

    def block(self, path: str, pattern: str) -> int:
        """Return the offset of a block that `stat` names."""
        found = re.search(pattern, debugfs(self._image, f"stat {path}"))
        assert found
        block = int(found[1])
        return block * self.block_size


def test_inode_costs_its_file_only(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext4-4k"))
    at = patient.inode("files/size-100")
    patient.flip(at + 4)
    volume = patient.open()
    folder = resolve(volume, b"files")
    listing = {child.name: child for child in run(volume.listdir(folder.ino))}
    assert listing[b"size-100"].attrs is None
    assert listing[b"size-60"].attrs is not None
    with pytest.raises(Corrupt, match=rf"checksum at {at:#x}"):
        run(volume.data(listing[b"size-100"].ino))
    with pytest.raises(Corrupt, match="checksum"):
        run(volume.lookup(folder.ino, b"size-100"))
    assert _readable(volume, b"files/size-60")


def test_directory_block_costs_its_directory_only(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext4-4k"))
    [at] = patient.blocks("names")
    patient.flip(at + 100)
    volume = patient.open()
    names = resolve(volume, b"names")
    with pytest.raises(Corrupt, match=rf"directory block: checksum at {at:#x}"):
        run(volume.listdir(names.ino))
    with pytest.raises(Corrupt, match="directory block: checksum"):
        run(volume.lookup(names.ino, b".hidden"))
    assert _readable(volume, b"files/size-100")


@pytest.mark.parametrize("record_length", [0, 4, 13, 60_000])
def test_record_length_without_checksums(ext_volume: Volume, record_length: int) -> None:
    patient = Patient(ext_volume("ext3"))
    at = patient.blocks("names")[0]
    patient.put(at + 24 + 4, struct.pack("<H", record_length))
    volume = patient.open()
    with pytest.raises(Corrupt, match=rf"record length at {at + 24:#x}"):
        run(volume.listdir(resolve(volume, b"names").ino))
    assert _readable(volume, b"files/size-100")


@pytest.mark.parametrize("name", [b"/tc/passw", b"\0" * 9])
def test_impossible_names(ext_volume: Volume, name: bytes) -> None:
    patient = Patient(ext_volume("ext3"))
    at = patient.data.index(b"\x09size-1023"[1:], patient.blocks("files")[0])
    patient.put(at, name)
    volume = patient.open()
    with pytest.raises(Corrupt, match="impossible name"):
        run(volume.listdir(resolve(volume, b"files").ino))


def test_extent_block_costs_its_file_only(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext4-4k"))
    at = patient.block("files/fragmented", r"\(ETB0\):(\d+)")
    patient.flip(at + 20)
    volume = patient.open()
    with pytest.raises(Corrupt, match=rf"extent node: checksum at {at:#x}"):
        run(volume.data(resolve(volume, b"files/fragmented").ino))
    assert _readable(volume, b"files/size-100")


def test_extent_tree_with_a_loop(ext_volume: Volume) -> None:
    """A child that says it is as high as its parent, and a tree whose children are one block."""
    patient = Patient(ext_volume("ext4-2k"))
    at = patient.block("files/fragmented", r"\(ETB0\):(\d+)")
    root = patient.inode("files/fragmented") + 0x28
    patient.put(at + 6, struct.pack("<H", 1))
    with pytest.raises(Corrupt, match="extent node: depth"):
        volume = patient.open()
        run(volume.data(resolve(volume, b"files/fragmented").ino))

    block = at // patient.block_size
    children = b"".join(struct.pack("<IIHH", index, block, 0, 0) for index in range(3))
    patient.put(root, struct.pack("<HHHHI", 0xF30A, 3, 4, 5, 0) + children)
    with pytest.raises(Corrupt, match="used twice"):
        volume = patient.open()
        run(volume.data(resolve(volume, b"files/fragmented").ino))
    assert _readable(volume, b"files/size-100")


@pytest.mark.parametrize(
    ("pointer", "message"), [("self", "used twice"), ("outside", "outside the volume")]
)
def test_block_map_with_a_loop(ext_volume: Volume, pointer: str, message: str) -> None:
    patient = Patient(ext_volume("ext3"))
    inode = patient.inode("files/hole")
    patient.put(inode + 4, struct.pack("<I", 1 << 28))
    double = patient.blocks("files/size-100")[0]
    number = double // patient.block_size if pointer == "self" else 1 << 30
    patient.put(inode + 0x28 + 13 * 4, struct.pack("<I", double // patient.block_size))
    patient.put(double, struct.pack("<I", number).ljust(patient.block_size, b"\0"))
    volume = patient.open()
    with pytest.raises(Corrupt, match=message):
        run(volume.data(resolve(volume, b"files/hole").ino))
    assert _readable(volume, b"files/size-60")


def test_directory_that_maps_a_block_twice(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext2-no-filetype"))
    inode = patient.inode("large")
    first, *_ = struct.unpack_from("<2I", patient.data, inode + 0x28)
    patient.put(inode + 0x28, struct.pack("<12I", *[first] * 12))
    volume = patient.open()
    with pytest.raises(Corrupt, match="block twice"):
        run(volume.listdir(resolve(volume, b"large").ino))


def test_attribute_block(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext4-4k"))
    at = patient.block("attributes/large", r"File ACL: (\d+)")
    patient.flip(at + 2000)
    volume = patient.open()
    file = resolve(volume, b"attributes/large")
    with pytest.raises(Corrupt, match=rf"attribute block: checksum at {at:#x}"):
        run(volume.xattrs(file.ino))
    assert _readable(volume, b"attributes/large")


def test_value_of_an_attribute_in_its_own_inode(ext_volume: Volume) -> None:
    fixture = ext_volume("ext4-many")
    patient = Patient(fixture)
    [huge] = [one for one in fixture.entries if one.walked.path == b"attributes/huge"]
    for found in re.finditer(re.escape(huge.xattrs["user.huge"][:64]), bytes(patient.data)):
        patient.flip(found.start())
    volume = patient.open()
    value = run(volume.xattrs(resolve(volume, b"attributes/huge").ino))[b"user.huge"].value
    assert isinstance(value, Corrupt)
    assert "hash of the attribute's value" in str(value)


def test_hash_tree_falls_back_to_looking_at_everything(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext4-2k"))
    root, *_ = patient.blocks("large")
    patient.put(root + 32, struct.pack("<HH", 1, 60_000))
    volume = patient.open()
    folder = resolve(volume, b"large").ino
    for child in run(volume.listdir(folder)):
        assert run(volume.lookup(folder, child.name)) == child.attrs
    assert run(volume.lookup(folder, b"not there")) is None


@pytest.mark.parametrize("flags", [0, 2])
def test_hash_of_unknown_signedness(ext_volume: Volume, flags: int) -> None:
    """Without the flag, names in ASCII are hashed; with the wrong one they still hash the same."""
    patient = Patient(ext_volume("ext3"))
    assert patient.data[1024 + 0x160] == 1
    patient.put(1024 + 0x160, bytes([flags]))
    volume = patient.open()
    folder = resolve(volume, b"large").ino
    for child in run(volume.listdir(folder)):
        assert run(volume.lookup(folder, child.name)) == child.attrs


def test_superblock_is_replaced_by_its_copy(ext_volume: Volume) -> None:
    for name, field in (("ext4-default", 0x68), ("ext4-32bit", 0x18), ("ext3", 0x28)):
        fixture = ext_volume(name)
        patient = Patient(fixture)
        patient.put(1024 + field, b"\xff\xff\xff\xff")
        if name == "ext4-32bit":
            # Its groups are smaller than usual, and so its copies are not where they are looked for.
            with pytest.raises(Corrupt, match="block size"):
                patient.open()
            continue
        volume = patient.open()
        first, second = volume.info.warnings
        assert "its copy at 0x800400 is used" in first
        assert "journal" in second
        assert _readable(volume, b"files/size-100")
        assert volume.info.uuid == fixture.blkid["UUID"]


def test_superblock_without_magic_is_something_else(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext4-default"))
    patient.put(1024 + 0x38, b"\0\0")
    with pytest.raises(NotRecognised):
        patient.open()


@pytest.mark.parametrize("name", ["ext4-default", "ext4-32bit", "ext4-meta-bg", "ext4-sparse2"])
def test_group_descriptors_are_replaced_by_their_copy(ext_volume: Volume, name: str) -> None:
    """uninit_bg's CRC-16 and metadata_csum's CRC-32C notice it."""
    patient = Patient(ext_volume(name))
    at = max(2048, patient.block_size)
    patient.flip(at + 8)
    assert _readable(patient.open(), b"files/size-100")


def test_group_without_any_good_descriptor(ext_volume: Volume) -> None:
    patient = Patient(ext_volume("ext4-no-journal"))
    patient.flip(4096 + 8)
    with pytest.raises(Corrupt, match=r"checksum of group 0's descriptor at 0x1000"):
        patient.open()


def test_truncated_volume_is_named(ext_volume: Volume) -> None:
    fixture = ext_volume("ext4-4k")
    patient = Patient(fixture)
    del patient.data[12 << 20 :]
    volume = patient.open()
    assert any("the rest is missing" in warning for warning in volume.info.warnings)
    assert _readable(volume, b"files/size-100")


MUTATED = ["ext4-4k", "ext4-2k", "ext3", "ext2-revision-0", "ext4-inline-1k", "ext4-many"]


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("name", MUTATED)
def test_mutated_volumes_give_values_or_parse_errors(ext_volume: Volume, name: str) -> None:
    """Random damage in metadata: within a bounded number of reads, of memory and of time."""
    fixture = ext_volume(name)
    original = fixture.image.read_bytes()
    places = _metadata(Patient(fixture), fixture)
    rng = random.Random(name)
    started = time.process_time()
    tracemalloc.start()
    opened = refused = 0
    for _ in range(40):
        damaged = bytearray(original)
        for _ in range(rng.choice((1, 5, 40))):
            at = rng.choice(places) + rng.randrange(256)
            length = rng.choice((1, 1, 2, 4, 8))
            value = rng.choice((b"\0" * 8, b"\xff" * 8, rng.randbytes(8)))[:length]
            damaged[at : at + length] = value
        if rng.random() < 0.1:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            refused += _use_all(bytes(damaged))
            opened += 1
        except ParseError:
            refused += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert opened
    assert refused
    assert peak < 400 << 20
    assert time.process_time() - started < 60


def _use_all(data: bytes) -> int:
    """Call everything on everything that can be reached; return the number of refusals."""
    source = MemorySource(data, 20_000)
    volume = run(open_ext(source))
    refused = 0
    pending, seen = [volume.root], {volume.root}
    while pending:
        ino = pending.pop()
        for call in (volume.xattrs, volume.data, volume.readlink):
            with suppress(OSError):
                try:
                    run(call(ino))
                except ParseError:
                    refused += 1
        try:
            children = run(volume.listdir(ino))
        except NotADirectoryError:
            continue
        except ParseError:
            refused += 1
            continue
        for child in children:
            refused += child.attrs is None
            if child.ino not in seen:
                seen.add(child.ino)
                pending.append(child.ino)
        for child in children[:3]:
            with suppress(ParseError):
                run(volume.lookup(ino, child.name))
    return refused


def _metadata(patient: Patient, fixture: ExtFixture) -> list[int]:
    """Return offsets where damage matters: superblock, descriptors, inodes, directories."""
    places = [1024, 2048, patient.block_size * 2]
    for path in ("files", "large", "names", "attributes", "files/fragmented", "/"):
        places.append(patient.inode(path))
        if path != "files/fragmented":
            places += patient.blocks(path)[:4]
    places += [patient.inode(f"layouts/{index}") for index in range(5)]
    places += [patient.inode(f"attributes/{name}") for name in ("small", "several", "acl")]
    return [place for place in places if 0 < place < fixture.image.stat().st_size - 4096]


def _readable(volume: ExtFilesystem, path: bytes) -> bool:
    data = run(volume.data(resolve(volume, path).ino))
    return data.size > 0 and (not isinstance(data.layout, Runs) or len(data.layout.runs) > 0)


def test_the_undamaged_volume_has_no_refusals(ext_volume: Volume) -> None:
    """What the mutation test counts is the damage."""
    data = ext_volume("ext4-4k").image.read_bytes()
    assert _use_all(data) == 0
    source = MemorySource(data, 20_000)
    assert list(walk_volume(run(open_ext(source)), source))
