"""Several exports of one server in one mount, and a disk that is another one after a restart."""

from __future__ import annotations

import errno
import subprocess
from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs import NtfsVolume, build_fragmented_mft, build_small
from fixtures.walk import walk
from tests.support.backends.nbd.servers import listen_tcp, listen_unix, nbdkit, running, uri_of
from tests.system.mounts.test_walks import expected_of_ntfs, has_content
from tests.system.parsers.ntfs.test_walk import by_tag

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def ntfs_volumes(images: Path) -> list[NtfsVolume]:
    return [build_small(images), build_small(images, 512), build_fragmented_mft(images)]


@pytest.mark.requirement("R2")
def test_all_ntfs_volumes_as_exports_of_one_server(
    vmount: Vmount, ntfs_volumes: list[NtfsVolume]
) -> None:
    folder = vmount.folder / "exports"
    folder.mkdir()
    for number, volume in enumerate(ntfs_volumes):
        (folder / f"disk {number}").symlink_to(volume.image)
    listener = listen_tcp("127.0.0.1")
    uris = [uri_of(listener, f"disk {number}") for number in range(len(ntfs_volumes))]
    with (
        running(nbdkit("file", f"dir={folder}"), listener),
        vmount.mounted(*uris) as mountpoint,
    ):
        for number, volume in enumerate(ntfs_volumes):
            found = walk(mountpoint / f"volumes/disk{number}", has_content)
            assert [entry for entry in found if not by_tag(entry.path)] == expected_of_ntfs(volume)
        listed = vmount.run("info", uri_of(listener)).stdout.decode()
        for number in range(len(ntfs_volumes)):
            assert f"disk {number}" in listed


def test_a_disk_of_another_size_after_a_restart_is_an_error(vmount: Vmount) -> None:
    image = vmount.folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", image], check=True)
    listener = listen_unix(vmount.folder / "socket")
    with (
        running(nbdkit("file", str(image)), listener) as server,
        vmount.mounted("--timeout", "5", uri_of(listener)) as mountpoint,
    ):
        server.kill()
        with image.open("r+b") as file:
            file.truncate(65 << 20)
        server.start()
        with (
            (mountpoint / "disks/disk0.raw").open("rb", buffering=0) as raw,
            pytest.raises(OSError, match="error") as caught,
        ):
            raw.seek(50 << 20)
            raw.read(4096)
        assert caught.value.errno == errno.EIO
