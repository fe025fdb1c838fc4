"""A machine with a snapshot whose files are in a datastore on a LUN: mounted, walked, changed, cut off."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from fixtures.vmdk import run
from fixtures.walk import walk
from tests.support.backends.nbd.servers import listen_unix, nbdkit, running, uri_of
from tests.support.datastores.vmfs_luns import copy_of, mounted, put, unpack
from tests.support.loop_devices import attached
from tests.support.parsers.vmfs.builder import Builder
from vmount.api import open_disks
from vmount.errors import SourceError, UsageError
from vmount.parsers.vmfs.descriptor import Type

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

T = TypeVar("T")

pytestmark = pytest.mark.mount

MIB = 1 << 20
BASE, CHILD, FLAT = "normal.vmdk", "big", "bigger"
"""Files that are on the LUNs, used for the base's descriptor, the snapshot and the base's data."""
DESCRIPTOR = f"""# Disk DescriptorFile
version=1
CID=1234abcd
parentCID=ffffffff
createType="vmfs"
RW {128 * MIB // 512} VMFS "{FLAT}"
"""
VMX = """config.version = "8"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "web01-000001.vmdk"
scsi0:1.present = "TRUE"
scsi0:1.fileName = "normal.vmdk"
scsi0:2.present = "TRUE"
scsi0:2.fileName = "gone.vmdk"
"""
OLD, NEW = b"Dear Bob", b"Dear Ann"


@dataclass(frozen=True)
class Chain:
    """A disk with a snapshot, in a folder, and what qemu-img reads out of it."""

    folder: Path
    raw: Path

    @property
    def disk(self) -> Path:
        return self.folder / CHILD


@pytest.fixture(scope="module")
def luns(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return unpack(tmp_path_factory.mktemp("luns"))


@pytest.fixture(scope="module")
def chain(linux: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    flat = folder / FLAT
    shutil.copy(linux, flat)
    os.truncate(flat, 128 * MIB)
    (folder / BASE).write_text(DESCRIPTOR)
    sector = flat.read_bytes().index(OLD) // 512 * 512
    with flat.open("rb") as file:
        file.seek(sector)
        (folder / "sector").write_bytes(file.read(512).replace(OLD, NEW))
    made = folder / "child.vmdk"
    options = ("-f", "vmdk", "-o", "subformat=monolithicSparse", "-F", "vmdk")
    run("sh", "-c", f"cd {folder} && qemu-img create {' '.join(options)} -b {BASE} {made.name}")
    run("qemu-io", "-f", "vmdk", "-c", f"write -s {folder / 'sector'} {sector} 512", made)
    raw = folder / "expected.raw"
    run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", made, raw)
    made.rename(folder / CHILD)
    return Chain(folder, raw)


@pytest.fixture(params=[5, 6])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def prepared(luns: dict[int, Path], chain: Chain) -> dict[int, Path]:
    """The LUNs with the chain in their datastores. Not to be written to."""
    for image in luns.values():
        put(image, FLAT, (chain.folder / FLAT).read_bytes())
        put(image, CHILD, (chain.folder / CHILD).read_bytes())
        put(image, BASE, DESCRIPTOR.encode().ljust(473, b"\n"))
    return luns


@pytest.fixture
def image(prepared: dict[int, Path], version: int, tmp_path: Path) -> Path:
    """A LUN to be changed."""
    return copy_of(prepared[version], tmp_path / "lun.img")


@pytest.fixture
def lun(prepared: dict[int, Path], version: int) -> Iterator[Path]:
    with attached(prepared[version]) as device:
        yield device


@pytest.fixture
def changing(image: Path) -> Iterator[Path]:
    """The device over `image`."""
    with attached(image) as device:
        yield device


@pytest.mark.requirement("R2")
def test_the_same_tree_as_through_file(
    vmount: Vmount, lun: Path, version: int, chain: Chain, tmp_path: Path
) -> None:
    with mounted(lun, version, tmp_path / "theirs") as theirs:
        assert (theirs / FLAT).read_bytes() == (chain.folder / FLAT).read_bytes()
    with vmount.mounted(chain.disk) as by_file:
        expected = walk(by_file / "root")
        expected_hash = digest(by_file / "disks/disk0.raw")
    assert expected_hash == digest(chain.raw)
    with vmount.mounted(f"san:{lun}:[vmfs{version}] {CHILD}") as by_san:
        assert (by_san / "root/home/ann/letter").read_bytes() == NEW
        assert walk(by_san / "root") == expected
        assert digest(by_san / "disks/disk0.raw") == expected_hash
        info = json.loads((by_san / "info.json").read_text())
    (disk,) = info["disks"]
    assert disk["transport"]["used"] == "san"
    assert disk["problem"] is None
    assert [link["name"] for link in disk["chain"]] == [
        f"[vmfs{version}] {CHILD}",
        f"[vmfs{version}] {BASE}",
    ]
    with (
        running(nbdkit("file", str(chain.raw)), listen_unix(tmp_path / "socket")) as server,
        vmount.mounted(uri_of(server.listener)) as by_nbd,
    ):
        assert walk(by_nbd / "root") == expected


@pytest.fixture
def spanned(luns: dict[int, Path], version: int, chain: Chain, tmp_path: Path) -> list[Path]:
    """The two LUNs of a datastore with a machine in a folder of its own; its data is on the second."""
    builder = Builder(luns[version], tmp_path)
    files = {
        "web01.vmx": VMX.encode(),
        BASE: DESCRIPTOR.encode(),
        FLAT: (chain.folder / FLAT).read_bytes(),
        "web01-000001.vmdk": chain.disk.read_bytes(),
    }
    entries = [(name, builder.copy(content), Type.FILE) for name, content in files.items()]
    builder.add_to_root("web01", builder.directory(entries))
    builder.close()
    return builder.paths


def test_all_disks_of_a_machine_on_two_luns(
    vmount: Vmount, spanned: list[Path], version: int, chain: Chain
) -> None:
    with attached(spanned[0]) as first, attached(spanned[1]) as second:
        source = f"san:{second},{first}:[vmfs{version}] web01/web01.vmx"
        with vmount.mounted(source) as mountpoint:
            assert digest(mountpoint / "disks/scsi0-0.raw") == digest(chain.raw)
            assert digest(mountpoint / "disks/scsi0-1.raw") == digest(chain.folder / FLAT)
            info = json.loads((mountpoint / "info.json").read_text())
        assert [disk["problem"] is None for disk in info["disks"]] == [True, True, False]
        assert "gone.vmdk" in info["disks"][2]["problem"]
        text = vmount.error("info", f"san:{first}:[vmfs{version}] web01/web01.vmx", code=3)
        assert "1 of its 2 extents" in text


@pytest.mark.requirement("R43")
def test_opened_again_after_the_lun_has_changed(
    image: Path, changing: Path, version: int, chain: Chain
) -> None:
    source = f"san:{changing}:[vmfs{version}] {BASE}"
    content = (chain.folder / FLAT).read_bytes()
    for text in (OLD, b"Dear Eve"):
        put(image, FLAT, content.replace(OLD, text))
        with open_disks(source) as disks, disks.open("root/home/ann/letter") as file:
            assert file.read() == text


@pytest.mark.requirement("R44")
def test_a_lun_that_is_cut_off_gives_eio(
    vmount: Vmount, image: Path, changing: Path, version: int
) -> None:
    with vmount.mounted(f"san:{changing}:[vmfs{version}] {FLAT}") as mountpoint:
        assert (mountpoint / "root/home/ann/letter").read_bytes() == OLD
        os.truncate(image, MIB)
        descriptor = os.open(mountpoint / "disks/disk0.raw", os.O_RDONLY)
        try:
            with pytest.raises(OSError, match="Input/output") as caught:
                os.pread(descriptor, 4096, 100 * MIB)
            assert caught.value.errno == errno.EIO
        finally:
            os.close(descriptor)
        assert (mountpoint / "info.json").read_text(), "the mount goes on"


@pytest.mark.requirement("R45")
def test_a_lun_that_cannot_be_read_is_told_at_once(
    vmount: Vmount, image: Path, changing: Path, version: int
) -> None:
    os.truncate(image, 2 * MIB)
    text = vmount.error("info", f"san:{changing}:[vmfs{version}] {FLAT}", code=3)
    assert "Input/output error" in text


def test_a_path_without_brackets_is_that_of_the_only_datastore(lun: Path) -> None:
    with open_disks(f"san:{lun}:/{BASE}") as disks, open_disks(f"san:{lun}:") as browsed:
        assert [volume.name for volume in disks.volumes] == ["disk0-p1", "disk0-p2", "disk0-p3"]
        assert browsed.locate(f"/{BASE}") == BASE
    with pytest.raises(SourceError, match=r"gone\.vmdk: No such file"):
        open_disks(f"san:{lun}:/gone.vmdk")


def test_messages(lun: Path, version: int) -> None:
    for source, kind, words in (
        (f"san:{lun}:[other] x.vmdk", SourceError, f"'other'.*known are 'vmfs{version}'"),
        (f"san:{lun}:[vmfs{version}] gone.vmdk", SourceError, "gone.vmdk: No such file"),
        (f"san:{lun}:[vmfs{version}] directory", SourceError, "not a regular file"),
        ("san:/dev/nothing:[a] b.vmdk", UsageError, "/dev/nothing: No such file"),
        (f"san:{lun}[a] b.vmdk", UsageError, "no colon before the path in the datastore"),
        ("san:", UsageError, "contains neither a device nor a datastore"),
        (f"san:{lun}:[a] ../b", UsageError, "is not the path of a file"),
    ):
        with pytest.raises(kind, match=words):
            open_disks(source)


def test_a_datastore_is_browsed(
    vmount: Vmount, lun: Path, version: int, chain: Chain, tmp_path: Path
) -> None:
    source = f"san:{lun}:"
    with mounted(lun, version, tmp_path / "theirs") as theirs:
        for path in ("/", "/directory"):
            listed = vmount.run("ls", source, path).stdout.decode().splitlines()
            names = {entry.name for entry in (theirs / path.lstrip("/")).iterdir()}
            assert set(listed) == names
        assert vmount.run("cat", source, "small").stdout == (theirs / "small").read_bytes()
        out = tmp_path / "out"
        out.mkdir()
        vmount.run("cp", source, "directory", FLAT, out)
        assert walked(out / "directory") == walked(theirs / "directory")
        assert digest(out / FLAT) == digest(theirs / FLAT)
        with vmount.mounted(source) as mountpoint:
            volume = mountpoint / "volumes" / f"vmfs{version}"
            assert walked(volume / "directory") == walked(theirs / "directory")
            assert digest(volume / FLAT) == digest(chain.folder / FLAT)


@pytest.mark.requirement("R26")
def test_open_read_and_close_in_any_thread(lun: Path, version: int, chain: Chain) -> None:
    expected = chain.raw.read_bytes()[:MIB]
    for _ in range(5):
        disks = in_thread(lambda: open_disks(f"san:{lun}:[vmfs{version}] {CHILD}"))
        file = in_thread(lambda: disks.open("disks/disk0.raw"))  # noqa: B023
        assert in_thread(lambda: file.read(MIB)) == expected  # noqa: B023
        in_thread(file.close)
        in_thread(disks.close)


def in_thread(call: Callable[[], T]) -> T:
    """Call in a thread of its own."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walked(root: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in root.iterdir()}
