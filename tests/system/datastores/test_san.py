"""Datastores on LUNs: which devices are read, which are refused, and what is read from them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import trio

from tests.support.datastores.vmfs_luns import copy_of, end_of, is_readable, mounted, put, unpack
from tests.support.loop_devices import attached
from vmount.backends.base import BackendError
from vmount.backends.block_device import DirectOptions
from vmount.backends.device_identity import BlockDevices
from vmount.datastores.lun_choice import LunChoice
from vmount.datastores.path import DatastorePath
from vmount.datastores.san import SanBackend
from vmount.disks.disk import OpenedDisk
from vmount.errors import UsageError
from vmount.options import OpenOptions
from vmount.runtime import TrioRuntime
from vmount.transports.base import ReadyVm, WantedDisk
from vmount.transports.file import file_transport
from vmount.transports.negotiate import negotiate
from vmount.transports.san import san_transport

if TYPE_CHECKING:
    from vmount.vsphere.session import Session

DESCRIPTOR = b"""# Disk DescriptorFile
version=1
CID=1234abcd
parentCID=ffffffff
createType="vmfs"
RW 262144 VMFS "bigger"
"""
NAMES = {5: "vmfs5", 6: "vmfs6"}


@pytest.fixture(scope="module")
def luns(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return unpack(tmp_path_factory.mktemp("luns"))


@pytest.fixture(params=[5, 6])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def device(luns: dict[int, Path], version: int) -> Iterator[Path]:
    with attached(luns[version]) as device:
        yield device


def machine(folder: Path, links: dict[str, Path]) -> BlockDevices:
    """Return a machine on which these links are all that there is of disks."""
    by_id = folder / "by-id"
    by_id.mkdir()
    for name, target in links.items():
        (by_id / name).symlink_to(target)
    return BlockDevices(by_id, folder / "dev", folder / "sys")


@asynccontextmanager
async def place(choice: LunChoice) -> AsyncIterator[SanBackend]:
    async with trio.open_nursery() as nursery:
        place = SanBackend(choice, nursery, DirectOptions())
        yield place
        await place.aclose()
        nursery.cancel_scope.cancel()


async def read(place: SanBackend, path: DatastorePath) -> bytes:
    transport = (await place.open(path)).transport
    return bytes(await transport.read(0, transport.size))


async def test_every_file_is_as_vmfs_tools_read_it(
    device: Path, version: int, tmp_path: Path
) -> None:
    compared = 0
    with mounted(device, version, tmp_path / "theirs") as theirs:
        async with place(LunChoice((str(device),))) as ours:
            for path in sorted(theirs.rglob("*")):
                if path.name.endswith(".sf") or not is_readable(path):
                    continue
                name = DatastorePath(NAMES[version], str(path.relative_to(theirs)))
                assert hashlib.sha256(await read(ours, name)).digest() == (
                    hashlib.sha256(path.read_bytes()).digest()
                ), name
                compared += 1
    assert compared > 100


async def test_a_datastore_has_a_label_and_a_uuid(device: Path, version: int) -> None:
    async with place(LunChoice((str(device),))) as ours:
        store = await ours.store("")
        label, uuid = store.names
        assert label == NAMES[version]
        assert await read(ours, DatastorePath(uuid, "small")) == await read(
            ours, DatastorePath(label, "small")
        )
        with pytest.raises(BackendError, match="no LUN of datastore 'other'"):
            await ours.open(DatastorePath("other", "small"))
        with pytest.raises(FileNotFoundError):
            await ours.open(DatastorePath(label, "nothing"))
        with pytest.raises(NotADirectoryError):
            await ours.open(DatastorePath(label, "small/file"))


async def test_luns_are_found_among_all_disks(luns: dict[int, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(os.urandom(1 << 20))
    with attached(luns[5]) as first, attached(luns[6]) as second, attached(other) as third:
        links = {"wwn-0x6000000000000001": first, "scsi-36000000000000002": second, "a": third}
        devices = machine(tmp_path, links)
        async with place(LunChoice(devices=devices)) as ours:
            for version in (5, 6):
                assert await read(ours, DatastorePath(NAMES[version], "small"))
            with pytest.raises(BackendError, match="several datastores"):
                await ours.store("")
        for choice in (
            LunChoice(devices=devices, deny=("wwn-0x6000000000000001",)),
            LunChoice(devices=devices, allow=("6000000000000002",)),
            LunChoice(devices=devices, allow=("*",), deny=(str(first),)),
        ):
            async with place(choice) as ours:
                assert (await ours.store("")).names[0] == "vmfs6"
        async with place(LunChoice((str(first),), deny=(str(first),))) as ours:
            with pytest.raises(UsageError, match="lun-deny"):
                await ours.store("")
        async with place(LunChoice((str(third),))) as ours:
            with pytest.raises(BackendError, match="has no VMFS"):
                await ours.store("")


@pytest.mark.requirement("R47")
async def test_a_lun_by_two_paths(luns: dict[int, Path], tmp_path: Path) -> None:
    """Two nodes of one device number, as two links and as a node of another name."""
    with attached(luns[5]) as device:
        node = tmp_path / "node"
        os.mknod(node, 0o60600, device.stat().st_rdev)
        async with place(LunChoice((str(device), str(node)))) as ours:
            assert await read(ours, DatastorePath("vmfs5", "small"))
        devices = machine(
            tmp_path, {"wwn-0x6000000000000001": device, "scsi-36000000000000001": node}
        )
        async with place(LunChoice(devices=devices)) as ours:
            assert await read(ours, DatastorePath("vmfs5", "small"))


async def test_a_copy_of_a_lun_is_not_taken_for_it(luns: dict[int, Path]) -> None:
    with attached(luns[5]) as first, attached(luns[5]) as second:
        async with place(LunChoice((str(first), str(second)))) as ours:
            with pytest.raises(BackendError, match="two disks with the same VMFS identity"):
                await ours.open(DatastorePath("vmfs5", "small"))


async def test_a_lun_with_a_partition_table(
    luns: dict[int, Path], version: int, tmp_path: Path
) -> None:
    """As ESXi makes it: the datastore is in a partition."""
    image = tmp_path / "lun.img"
    size = luns[version].stat().st_size
    with image.open("wb") as file:
        file.truncate(size + (4 << 20))
    vmfs = "AA31E02A-400F-11DB-9590-000C2911D1B8"
    run("sgdisk", "--new=1:2048:+2130897K", f"--typecode=1:{vmfs}", str(image))
    run(
        *("dd", f"if={luns[version]}", f"of={image}", "bs=1M", "seek=1"),
        *("conv=notrunc,sparse", "status=none"),
    )
    with attached(luns[version]) as whole, attached(image) as device:
        async with place(LunChoice((str(whole),))) as ours:
            expected = await read(ours, DatastorePath(NAMES[version], "big"))
        async with place(LunChoice((str(device),))) as ours:
            assert await read(ours, DatastorePath(NAMES[version], "big")) == expected


@pytest.mark.requirement("R43")
async def test_the_next_mount_sees_what_was_written_since(
    luns: dict[int, Path], version: int, tmp_path: Path
) -> None:
    image = copy_of(luns[version], tmp_path / "lun.img")
    path = DatastorePath(NAMES[version], "big")
    with attached(image) as device:
        for seed in (b"one", b"two"):
            content = hashlib.shake_128(seed).digest((1 << 20) + 1)
            put(image, "big", content)
            async with place(LunChoice((str(device),))) as ours:
                assert await read(ours, path) == content
        with mounted(device, version, tmp_path / "theirs") as theirs:
            assert (theirs / "big").read_bytes() == content


@pytest.mark.requirement("R45")
async def test_a_lun_that_is_visible_and_not_readable(
    luns: dict[int, Path], version: int, tmp_path: Path
) -> None:
    """Its first bytes are there; those of the file are not."""
    image = copy_of(luns[version], tmp_path / "lun.img")
    with attached(image) as device:
        async with place(LunChoice((str(device),))) as ours:
            await ours.open(DatastorePath(NAMES[version], "small"))
            os.truncate(image, 512)
            with pytest.raises(BackendError, match="Input/output error"):
                await ours.open(DatastorePath(NAMES[version], "bigger"))
        async with place(LunChoice((str(device),))) as ours:
            with pytest.raises(BackendError, match="Input/output error"):
                await ours.open(DatastorePath(NAMES[version], "bigger"))


@pytest.mark.requirement("R4", "R45")
@pytest.mark.parametrize("refused", ["", "Input/output error", "no LUN of datastore"])
async def test_the_next_transport_takes_over(
    luns: dict[int, Path], version: int, tmp_path: Path, refused: str
) -> None:
    """A disk that is read by `san`; whose end cannot be read; whose datastore is on no LUN here."""
    image = copy_of(luns[version], tmp_path / "lun.img")
    put(image, "normal.vmdk", DESCRIPTOR.ljust(473, b"\n"))
    end = end_of(image, "bigger")
    folder = tmp_path / "datastore"
    folder.mkdir()
    (folder / "normal.vmdk").write_bytes(DESCRIPTOR)
    with (folder / "bigger").open("wb") as file:
        file.truncate(128 << 20)
    wanted = WantedDisk("scsi0-0", DatastorePath(NAMES[version], "normal.vmdk"))
    with attached(image) as device:
        if refused.startswith("Input"):
            os.truncate(image, end - 4096)
        links = {} if refused.startswith("no LUN") else {"wwn-0x6000000000000001": device}
        options = OpenOptions(
            datastores={NAMES[version]: folder},
            luns=LunChoice(devices=machine(tmp_path, links)),
        )
        async with trio.open_nursery() as nursery:
            no_session = cast("Session", None)  # these routes ask no server
            here = ReadyVm("vm-1", None, "", no_session, TrioRuntime(nursery), nursery, options)
            routes = [san_transport(here), file_transport(here)]
            found = await negotiate(wanted, routes, read_a_sector)
            assert found.transport == ("file" if refused else "san")
            assert [refusal.name for refusal in found.refused] == (["san"] if refused else [])
            assert all(refused in refusal.reason for refusal in found.refused)
            await found.opened.aclose()
            for route in routes:
                await route.aclose()
            nursery.cancel_scope.cancel()


async def read_a_sector(_: WantedDisk, opened: OpenedDisk) -> None:
    await opened.data.read(0, 512)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
