"""How volumes are read: places of files, lookups, what is asked of the disk, and states of a volume."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.ext import EVERYDAY, ExtFixture, debugfs, make, mounted
from fixtures.ext_states import build_encrypted
from tests.support.parsers.ext.support import (
    FileSource,
    open_image,
    read_range,
    resolve,
    run,
    walk_volume,
)
from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.ext.casefold import fold
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.ext.name_hash import HashVersion, name_hash
from vmount.parsers.model import Attrs, Runs
from vmount.parsers.reader import BytesReader

Volume = Callable[[str], ExtFixture]


@pytest.mark.parametrize("name", [recipe.name for recipe in EVERYDAY if recipe.mountable])
def test_runs_are_the_kernels_extents(ext_volume: Volume, name: str) -> None:
    fixture = ext_volume(name)
    volume = open_image(fixture.image)
    folder = resolve(volume, b"layouts")
    assert fixture.extents
    for child in run(volume.listdir(folder.ino)):
        layout = run(volume.data(child.ino)).layout
        if not isinstance(layout, Runs):
            continue
        assert child.attrs is not None
        mine = [(one.offset, one.length, one.start) for one in layout.runs if one.start is not None]
        expected: list[tuple[int, int, int]] = []
        for offset, length, start in fixture.extents[child.name.decode()]:
            length = min(length, child.attrs.size - offset)
            if length <= 0:
                continue
            if expected and expected[-1][0] + expected[-1][1] == offset:
                last_offset, last_length, last_start = expected[-1]
                if last_start + last_length == start:
                    expected[-1] = (last_offset, last_length + length, last_start)
                    continue
            expected.append((offset, length, start))
        assert mine == expected, child.name


@pytest.mark.parametrize("name", ["ext4-4k", "ext3", "ext4-inline-1k"])
def test_any_range_of_a_file_is_what_debugfs_dumps(
    ext_volume: Volume, tmp_path: Path, name: str
) -> None:
    fixture = ext_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_ext(source))
    path = b"layouts/3"
    debugfs(fixture.image, f"dump {path.decode()} {tmp_path / 'dump'}")
    expected = (tmp_path / "dump").read_bytes()
    data = run(volume.data(resolve(volume, path).ino))
    assert data.size == len(expected)

    @given(st.integers(0, data.size), st.integers(0, data.size))
    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
    def check(first: int, second: int) -> None:
        offset, end = sorted((first, second))
        assert read_range(source, data, offset, end - offset) == expected[offset:end]

    check()


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("ext4-4k", 0),
        ("ext3", 0),
        ("ext4-tea", 0),
        ("ext4-legacy-hash", 0),
        ("ext4-many", 0),
        ("ext4-two-levels", 1),
    ],
)
def test_lookup_reads_a_path_of_the_hash_tree_only(
    ext_volume: Volume, name: str, levels: int
) -> None:
    """A root, the nodes under it and a block of entries, then the inode; so for names that are not there."""
    fixture = ext_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_ext(source))
    assert f"Indirect levels: {levels}" in debugfs(fixture.image, "htree large")
    folder = resolve(volume, b"large").ino
    names = [child.name for child in run(volume.listdir(folder))]
    for number in range(100):
        names.append(b"not there %d" % number)
    for wanted in names:
        source.reads.clear()
        found = run(volume.lookup(folder, wanted))
        assert (found is None) == wanted.startswith(b"not there")
        assert len(source.reads) <= levels + 2


@pytest.mark.requirement("R17")
@pytest.mark.parametrize("name", ["ext4-default", "ext4-casefold", "ext4-legacy-hash"])
def test_every_name_is_found_again(ext_volume: Volume, name: str) -> None:
    volume = open_image(ext_volume(name).image)
    for folder in (b"names", b"large", b"files"):
        ino = resolve(volume, folder).ino
        for child in run(volume.listdir(ino)):
            assert run(volume.lookup(ino, child.name)) == child.attrs


def test_listing_asks_for_everything_at_once(ext_volume: Volume) -> None:
    """A folder of 257 names takes a few reads, announced, of at most 1 MiB."""
    source = FileSource(ext_volume("ext4-4k").image)
    volume = run(open_ext(source))
    folder = resolve(volume, b"large").ino
    source.reads.clear()
    children = run(volume.listdir(folder))
    assert len(children) > 250
    assert len(source.reads) < 6
    assert all(read.length <= 1 << 20 for read in source.reads)
    source.reads.clear()
    for child in children:
        run(volume.attrs(child.ino))
    assert source.reads == []


@pytest.mark.requirement("R37")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ext4-large", "ext3-large"])
def test_large_volume(ext_volume: Volume, name: str) -> None:
    """28,000 files, 1,500 fragments, and a file of 1 TiB whose ends are compared."""
    fixture = ext_volume(name)
    source = FileSource(fixture.image)
    volume = run(open_ext(source))
    walked = sorted(entry for entry, _ in walk_volume(volume, source))
    assert walked == [entry.walked for entry in fixture.entries]
    layout = run(volume.data(resolve(volume, b"fragments").ino)).layout
    assert isinstance(layout, Runs)
    assert len(layout.runs) > 1000
    assert resolve(volume, b"sparse").size == 1 << 40


def test_large_attributes_are_in_inodes_of_their_own(ext_volume: Volume) -> None:
    """The walk compares their values; here it is made sure that the volume has such a one."""
    fixture = ext_volume("ext4-many")
    assert "user.huge (30000)" in debugfs(fixture.image, "stat attributes/huge")


def test_encrypted_files_are_refused_and_others_read(tmp_path: Path) -> None:
    source = FileSource(build_encrypted(tmp_path))
    volume = run(open_ext(source))
    secret = resolve(volume, b"secret")
    assert run(volume.lookup(secret.ino, b"file")) is None
    [file] = [
        child.ino
        for child in run(volume.listdir(secret.ino))
        if child.attrs is not None and child.attrs.size == 6000
    ]
    with pytest.raises(Unsupported, match="encrypt"):
        run(volume.data(file))
    data = run(volume.data(resolve(volume, b"plain").ino))
    assert read_range(source, data, 0, data.size) == b"readable"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("", 0),
        ("", 300),
        ("-O ^dir_index", 0),
        ("-O ^dir_index", 300),
        ("-O inline_data -I 512", 0),
        ("-b 1024", 300),
    ],
)
def test_encrypted_names_are_shown_as_the_kernel_does_without_a_key(
    tmp_path: Path, options: str, names: int
) -> None:
    image = build_encrypted(tmp_path, options, names)
    volume = open_image(image)

    def ours(path: bytes) -> Iterator[tuple[bytes, Attrs, bytes]]:
        folder = resolve(volume, path).ino
        for child in run(volume.listdir(folder)):
            full = path + b"/" + child.name
            assert child.attrs is not None
            assert run(volume.lookup(folder, child.name)) == child.attrs
            assert run(volume.attrs(child.ino)) == child.attrs
            yield (
                full,
                child.attrs,
                run(volume.readlink(child.ino)) if stat.S_ISLNK(child.kind) else b"",
            )
            if stat.S_ISDIR(child.kind):
                yield from ours(full)

    shown = {
        path: (attrs.mode, attrs.size, attrs.nlink, attrs.ino, target)
        for path, attrs, target in ours(b"secret")
    }
    expected = {}
    with mounted(image, options="ro") as root:
        for path in (root / "secret").rglob("*"):
            status = path.lstat()
            target = os.fsencode(path.readlink()) if path.is_symlink() else b""
            expected[os.fsencode(path.relative_to(root))] = (
                status.st_mode,
                status.st_size,
                status.st_nlink,
                status.st_ino,
                target,
            )
    assert len(expected) == 21 + names
    assert shown == expected


@pytest.mark.parametrize(
    ("features", "name"),
    [("journal_dev", "JOURNAL_DEV"), ("0x1000", "DIRDATA"), ("0x80000", "0x80000")],
)
def test_unknown_incompatible_features_are_refused_by_name(
    ext_volume: Volume, tmp_path: Path, features: str, name: str
) -> None:
    image = tmp_path / "image"
    image.write_bytes(ext_volume("ext3").image.read_bytes())
    bit = {"journal_dev": 0x8}.get(features) or int(features, 16)
    now = int.from_bytes(image.read_bytes()[1024 + 0x60 : 1024 + 0x64], "little")
    debugfs(image, f"set_super_value feature_incompat {now | bit:#x}", write=True)
    with pytest.raises(Unsupported, match=name):
        open_image(image)


def test_other_formats_are_not_recognised() -> None:
    for size in (0, 100, 2048, 1 << 20):
        with pytest.raises(NotRecognised):
            run(open_ext(BytesReader(bytes(size))))


def test_wrong_kinds_of_file_have_the_system_calls_errors(ext_volume: Volume) -> None:
    volume = open_image(ext_volume("ext4-default").image)
    file = resolve(volume, b"files/size-100").ino
    with pytest.raises(NotADirectoryError):
        run(volume.listdir(file))
    with pytest.raises(NotADirectoryError):
        run(volume.lookup(file, b"x"))
    with pytest.raises(IsADirectoryError):
        run(volume.data(volume.root))
    with pytest.raises(FileNotFoundError):
        run(volume.data(file, b"stream"))
    for call in (volume.readlink(file), volume.data(resolve(volume, b"special/fifo").ino)):
        with pytest.raises(OSError) as caught:
            run(call)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.requirement("R33")
def test_two_copies_are_open_together(ext_volume: Volume, tmp_path: Path) -> None:
    fixture = ext_volume("ext4-default")
    clone = tmp_path / "clone.img"
    subprocess.run(["cp", "--sparse=always", str(fixture.image), str(clone)], check=True)
    sources = [FileSource(fixture.image), FileSource(clone)]
    volumes = [run(open_ext(source)) for source in sources]
    assert volumes[0].info == volumes[1].info
    first, second = (list(walk_volume(v, s)) for v, s in zip(volumes, sources, strict=True))
    assert first == second


@pytest.fixture(scope="module")
def casefold_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a volume with case-insensitive directories, whose hash trees e2fsck has built."""
    folder = tmp_path_factory.mktemp("casefold")
    source, image = folder / "source", folder / "image"
    for name in ("small", "large", "sensitive"):
        (source / name).mkdir(parents=True)
    for name in SPELLINGS:
        (source / "small" / name).write_bytes(name.encode())
        (source / "large" / name).write_bytes(name.encode())
    (source / "sensitive" / "Name").touch()
    (source / "small" / os.fsdecode(b"Not UTF-8 \xff")).touch()
    for index in range(600):
        (source / "large" / f"A rather long NAME, number {index}").touch()
    options = ["-t", "ext4", "-b", "1024", "-O", "casefold", "-E", "encoding=utf8"]
    make(image, 16 << 20, [*options, "-d", str(source)])
    for name, flags in (("small", 0x40080000), ("large", 0x40080000)):
        debugfs(image, f"set_inode_field {name} flags {flags:#x}", write=True)
    subprocess.run(["e2fsck", "-fyD", str(image)], capture_output=True, check=False)
    assert "0x40081000" in debugfs(image, "stat large")
    return image


SPELLINGS = {
    "README": "readme",
    "Straße": "STRASSE",
    "Größe": "GRÖßE",
    "Gro\u0308ße 2": "größe 2",
    "ΣΊΣΥΦΟΣ": "σίσυφος",
    "\ufb01le": "FILE",
    "soft\u00adhyphen": "softhyphen",
    "\u1e9b\u0323": "\u1e61\u0323",
    "𐐀𐐁": "𐐨𐐩",
    "한글": "\u1112\u1161\u11ab\u1100\u1173\u11af",
}
"""Names and another spelling of each."""


@pytest.mark.requirement("R17")
def test_case_insensitive_lookups(casefold_image: Path) -> None:
    source = FileSource(casefold_image)
    volume = run(open_ext(source))
    for folder in (b"small", b"large"):
        ino = resolve(volume, folder).ino
        names = {child.name: child.attrs for child in run(volume.listdir(ino))}
        for name, spelling in SPELLINGS.items():
            assert run(volume.lookup(ino, name.encode())) == names[name.encode()]
            assert run(volume.lookup(ino, spelling.encode())) == names[name.encode()], spelling
        assert run(volume.lookup(ino, b"no such name")) is None
    assert run(volume.lookup(resolve(volume, b"small").ino, b"Not UTF-8 \xff")) is not None
    assert run(volume.lookup(resolve(volume, b"small").ino, b"not utf-8 \xff")) is None
    assert run(volume.lookup(resolve(volume, b"sensitive").ino, b"name")) is None
    large = resolve(volume, b"large").ino
    for index in range(600):
        source.reads.clear()
        assert run(volume.lookup(large, b"a RATHER long name, number %d" % index)) is not None
        # A path of the hash tree, and the inode.
        assert len(source.reads) <= 4


def test_casefold_flag_without_the_feature_is_refused(ext_volume: Volume, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(ext_volume("ext4-default").image.read_bytes())
    debugfs(image, "set_inode_field large flags 0x40081000", write=True)
    volume = open_image(image)
    with pytest.raises(Corrupt, match="casefold"):
        run(volume.lookup(resolve(volume, b"large").ino, b"name"))


def test_folded_names_are_those_of_e2fsprogs() -> None:
    """The hash of a name in a case-insensitive directory is that of its folded form."""
    # Of each block of Unicode that has case, compositions or ignorable code points, some; all of 12.1.
    points = [
        *range(0xA1, 0x250),
        *range(0x370, 0x378),
        *range(0x37A, 0x380),
        *range(0x384, 0x38B),
        *range(0x38E, 0x3A2),
        *range(0x3A3, 0x530),
        *range(0x10A0, 0x10C6),
        *range(0x1C80, 0x1C89),
        *range(0x1E00, 0x1F16),
        *range(0x1F80, 0x1FB5),
        *range(0x200B, 0x2010),
        *range(0x2160, 0x2180),
        *range(0x2C60, 0x2C80),
        *range(0xA640, 0xA66E),
        *range(0xAB70, 0xABC0),
        *range(0xAC00, 0xAC40),
        *range(0xFB00, 0xFB07),
        *range(0xFE00, 0xFE10),
        *range(0xFF21, 0xFF3B),
        *range(0x10400, 0x10428),
        *range(0x118A0, 0x118C0),
        *range(0x1E900, 0x1E922),
    ]
    names = [f"a{chr(point)}{chr(0x301)}{chr(0x323)}z" for point in points]
    script = "\n".join(f'dx_hash -c -e utf8 -h half_md4 "{name}"' for name in names)
    done = subprocess.run(
        ["debugfs", "-f", "-"], input=script.encode(), capture_output=True, check=True
    )
    hashes = [
        int(line.rpartition(b" is 0x")[2].split()[0], 16)
        for line in done.stdout.splitlines()
        if line.startswith(b"Hash of")
    ]
    assert len(hashes) == len(names)
    for name, expected in zip(names, hashes, strict=True):
        hashed = name_hash(HashVersion.HALF_MD4, fold(name.encode()), bytes(16))
        assert hashed is not None
        assert hashed.major == expected, ascii(name)
