"""Distant disks through real mounts: three servers that nobody here wrote, and what goes wrong with them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY, ExtFixture
from fixtures.ext import build as build_ext
from fixtures.ntfs import NtfsVolume, build_small
from fixtures.walk import walk
from tests.support.backends.nbd.servers import (
    Server,
    listen_tcp,
    listen_unix,
    make_certificates,
    nbd_server,
    nbdkit,
    need,
    qemu_nbd,
    running,
    uri_of,
)
from tests.system.mounts.test_walks import expected_of_ext, expected_of_ntfs, has_content, walk_api
from tests.system.parsers.ntfs.test_walk import by_tag
from vmount.api import open_disks

if TYPE_CHECKING:
    import socket

    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount

DEADLINE = 2.0
"""Seconds that a mount here gives a server to answer."""


@pytest.fixture(scope="module")
def ext_volumes(images: Path) -> list[ExtFixture]:
    return [build_ext(recipe, images) for recipe in EVERYDAY if recipe.mountable]


@pytest.fixture(scope="module")
def ext(ext_volumes: list[ExtFixture]) -> ExtFixture:
    return ext_volumes[0]


@pytest.fixture(scope="module")
def ntfs(images: Path) -> NtfsVolume:
    return build_small(images)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@contextmanager
def serving(kind: str, image: Path, folder: Path, certificates: Path) -> Iterator[str]:
    """Serve an image by one of the ways of WAYS; yield the URI."""
    program, place, *secure = kind.split("-")
    folder.mkdir()
    if program == "debian":
        tls_lines = [
            "force_tls = true",
            f"certfile = {certificates}/server-cert.pem",
            f"keyfile = {certificates}/server-key.pem",
            f"cacertfile = {certificates}/ca-cert.pem",
        ]
        with nbd_server(folder, image, *(tls_lines if secure else [])) as path:
            yield (
                f"nbds+unix:///disk?socket={path}&tls-certificates={certificates}"
                if secure
                else f"nbd+unix:///disk?socket={path}"
            )
        return
    listener: socket.socket
    listener = (
        listen_unix(folder / "socket")
        if place == "unix"
        else listen_tcp({"ipv4": "127.0.0.1", "ipv6": "::1"}[place])
    )
    tls = f"tls-certificates={certificates}"
    if program == "nbdkit":
        tls_options = ["--tls=require", f"--tls-certificates={certificates}"] if secure else []
        argv = nbdkit(*tls_options, "file", str(image))
    else:
        creds = f"tls-creds-x509,id=tls0,endpoint=server,dir={certificates},verify-peer=no"
        argv = qemu_nbd(
            image, "raw", *(["--object", creds, "--tls-creds", "tls0"] if secure else [])
        )
    if place == "unix" and secure:
        tls += "&tls-hostname=localhost"
    with running(argv, listener):
        yield uri_of(listener, tls=tls if secure else "")


WAYS = (
    "nbdkit-unix",
    "nbdkit-ipv4",
    "nbdkit-ipv6-tls",
    "nbdkit-unix-tls",
    "qemu-unix",
    "qemu-ipv6",
    "qemu-ipv4-tls",
    "debian-unix",
    "debian-unix-tls",
)


@pytest.mark.requirement("R2")
@pytest.mark.parametrize("way", WAYS)
def test_the_same_tree_over_every_server(
    vmount: Vmount, ext: ExtFixture, ntfs: NtfsVolume, certificates: Path, way: str
) -> None:
    with (
        serving(way, ext.image, vmount.folder / "one", certificates) as first,
        serving(way, ntfs.image, vmount.folder / "two", certificates) as second,
        vmount.mounted(first, second) as mountpoint,
    ):
        assert walk(mountpoint / "volumes/disk0") == expected_of_ext(ext)
        found = walk(mountpoint / "volumes/disk1", has_content)
        assert [entry for entry in found if not by_tag(entry.path)] == expected_of_ntfs(ntfs)
        digest = hashlib.sha256((mountpoint / "disks/disk0.raw").read_bytes()).digest()
        assert digest == hashlib.sha256(ext.image.read_bytes()).digest()


@pytest.mark.requirement("R2")
@pytest.mark.parametrize("form", ["vmdk", "qcow2"])
def test_qemu_serves_other_formats(vmount: Vmount, ext: ExtFixture, form: str) -> None:
    image = vmount.folder / f"disk.{form}"
    subprocess.run(["qemu-img", "convert", "-O", form, ext.image, image], check=True)
    listener = listen_unix(vmount.folder / "socket")
    with (
        running(qemu_nbd(image, form), listener),
        vmount.mounted("--keepalive", "5", uri_of(listener)) as mountpoint,
    ):
        assert walk(mountpoint / "volumes/disk0") == expected_of_ext(ext)


@pytest.mark.requirement("R36")
def test_all_ext_volumes_over_nbd(vmount: Vmount, ext_volumes: list[ExtFixture]) -> None:
    with ExitStack() as stack:
        uris = []
        for number, volume in enumerate(ext_volumes):
            listener = listen_unix(vmount.folder / f"socket{number}")
            stack.enter_context(running(nbdkit("file", str(volume.image)), listener))
            uris.append(uri_of(listener))
        mountpoint = stack.enter_context(vmount.mounted("--cache-size", "1M", *uris))
        for number, volume in enumerate(ext_volumes):
            assert walk(mountpoint / f"volumes/disk{number}") == expected_of_ext(volume), (
                volume.name
            )


def test_the_api_over_nbd(tmp_path: Path, ext: ExtFixture) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("file", str(ext.image)), listener), open_disks(uri_of(listener)) as disks:
        assert walk_api(disks, "disk0") == expected_of_ext(ext)


@pytest.mark.requirement("R32")
def test_a_server_that_calls_everything_a_hole_changes_no_byte(
    vmount: Vmount, ext: ExtFixture
) -> None:
    need("nbdkit")
    listener = listen_unix(vmount.folder / "socket")
    argv = nbdkit(
        "eval",
        f"get_size=image={ext.image}; stat -c %s $image",
        f"pread=dd if={ext.image} iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
        "can_extents=exit 0",
        'extents=echo "$4 $3 hole,zero"',
    )
    with running(argv, listener), vmount.mounted(uri_of(listener)) as mountpoint:
        assert walk(mountpoint / "volumes/disk0") == expected_of_ext(ext)


def test_errors_on_some_reads_are_asked_again(vmount: Vmount, ext: ExtFixture) -> None:
    listener = listen_unix(vmount.folder / "socket")
    argv = nbdkit("--filter=error", "file", str(ext.image), "error-pread-rate=1%")
    with running(argv, listener), vmount.mounted(uri_of(listener)) as mountpoint:
        assert walk(mountpoint / "volumes/disk0") == expected_of_ext(ext)


@pytest.fixture(scope="module")
def big_file(images: Path) -> tuple[Path, str]:
    """Return a volume with a file of 64 MiB, and the hash of the file."""
    tree, image = images / "tree", images / "big.img"
    tree.mkdir()
    content = random.Random(5).randbytes(64 << 20)
    (tree / "big").write_bytes(content)
    for number in range(50):
        (tree / f"small{number}").write_bytes(content[number : number + 100])
    with image.open("wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image], check=True)
    return image, hashlib.sha256(content).hexdigest()


@contextmanager
def slow_server(folder: Path, image: Path) -> Iterator[tuple[Server, str]]:
    listener = listen_unix(folder / "socket")
    argv = nbdkit("--filter=delay", "file", str(image), "rdelay=20ms")
    with running(argv, listener) as server:
        yield server, uri_of(listener)


def test_a_server_restarted_in_the_middle_of_a_copy(
    vmount: Vmount, big_file: tuple[Path, str]
) -> None:
    image, expected = big_file
    with slow_server(vmount.folder, image) as (server, uri), vmount.mounted(uri) as mountpoint:
        hashed = hashlib.sha256()
        with (mountpoint / "volumes/disk0/big").open("rb", buffering=0) as file:
            hashed.update(file.read(4 << 20))
            server.kill()
            server.start()
            while piece := file.read(1 << 20):
                hashed.update(piece)
        assert hashed.hexdigest() == expected
        status = json.loads(vmount.run("status", "--json", mountpoint).stdout)
        assert status["disks"]["disk0"]["reconnects"] >= 1


@pytest.mark.requirement("R38")
@pytest.mark.parametrize("end", ["killed", "silent"])
def test_a_server_that_is_gone_costs_an_error_within_the_deadline(
    vmount: Vmount, big_file: tuple[Path, str], end: str
) -> None:
    image, _ = big_file
    with slow_server(vmount.folder, image) as (server, uri):
        with vmount.mounted("--timeout", str(DEADLINE), uri) as mountpoint:
            volume = mountpoint / "volumes/disk0"
            kept = (volume / "small7").read_bytes()
            process = server._process
            assert process is not None
            if end == "killed":
                server.close()
            else:
                process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            with (
                pytest.raises(OSError, match="error") as caught,
                (volume / "big").open("rb") as file,
            ):
                file.seek(50 << 20)
                file.read(1)
            assert caught.value.errno == errno.EIO
            assert time.monotonic() - began < DEADLINE * 4
            assert (volume / "small7").read_bytes() == kept
            assert len(list(volume.iterdir())) == 52
            began = time.monotonic()
            vmount.run("umount", mountpoint)
            assert time.monotonic() - began < DEADLINE * 4
            vmount.run(image, mountpoint)
        if end == "silent":
            process.send_signal(signal.SIGCONT)


def test_messages_of_servers(vmount: Vmount, ext: ExtFixture, certificates: Path) -> None:
    mountpoint = vmount.new_mountpoint()
    listener = listen_tcp("127.0.0.1")
    host, port = listener.getsockname()[:2]
    argv = nbdkit("--tls=require", f"--tls-certificates={certificates}", "file", str(ext.image))
    with running(argv, listener):
        for uri, words in (
            (f"nbd://{host}:{port}/", "TLS"),
            (f"nbds://{host}:{port}/", "certificate"),
        ):
            line = vmount.error(uri, mountpoint, code=3)
            assert uri.rstrip("/") in line
            assert words in line
    for uri, words in (
        (f"nbd://{host}:{port}/", "refused"),
        ("nbd+unix:///?socket=/nonexistent", "No such file"),
        ("nbd://", "nbd://"),
    ):
        assert words in vmount.error(uri, mountpoint, code=3)
    with nbd_server(vmount.folder, ext.image) as path:
        line = vmount.error(f"nbd+unix:///nothing?socket={path}", mountpoint, code=3)
        assert "nothing" in line
        listed = vmount.run("info", f"nbd+unix:///?socket={path}").stdout
        assert b"disk" in listed
        as_json = json.loads(vmount.run("info", "--json", f"nbd+unix:///?socket={path}").stdout)
        assert [export["name"] for export in as_json["exports"]] == ["disk"]


@pytest.mark.requirement("R28")
@pytest.mark.slow
def test_many_mounts_of_one_server(vmount: Vmount, ext: ExtFixture) -> None:
    listener = listen_unix(vmount.folder / "socket")
    expected = expected_of_ext(ext)
    with running(nbdkit("file", str(ext.image)), listener):
        uri = uri_of(listener)

        def use(number: int) -> bool:
            mountpoint = vmount.folder / f"many{number}"
            mountpoint.mkdir()
            vmount.run(uri, mountpoint)
            try:
                return walk(mountpoint / "volumes/disk0") == expected
            finally:
                vmount.run("umount", mountpoint)

        with ThreadPoolExecutor(32) as pool:
            assert all(pool.map(use, range(32)))


@pytest.mark.requirement("R25")
def test_sixteen_threads_read_one_mount_at_random(
    vmount: Vmount, big_file: tuple[Path, str]
) -> None:
    image, _ = big_file
    content = image.read_bytes()
    listener = listen_unix(vmount.folder / "socket")
    uri = uri_of(listener)
    with (
        running(nbdkit("file", str(image)), listener),
        vmount.mounted("--cache-size", "8M", uri) as mountpoint,
    ):

        def read(seed: int) -> bool:
            chosen = random.Random(seed)
            descriptor = os.open(mountpoint / "disks/disk0.raw", os.O_RDONLY)
            try:
                for _ in range(60):
                    offset = chosen.randrange(len(content))
                    length = chosen.randrange(300_000)
                    if os.pread(descriptor, length, offset) != content[offset : offset + length]:
                        return False
                return True
            finally:
                os.close(descriptor)

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(read, range(16)))


def test_status_needs_no_root_and_tells_of_the_disk(vmount: Vmount, ext: ExtFixture) -> None:
    listener = listen_unix(vmount.folder / "socket")
    with running(nbdkit("file", str(ext.image)), listener), vmount.mounted(uri_of(listener)) as mnt:
        walk(mnt / "volumes/disk0")
        disk = json.loads((mnt / ".vmount/status.json").read_text())["disks"]["disk0"]
        assert disk["bytes_fetched"] > 0
        assert disk["requests"] > 0
        assert 0 <= disk["hit_rate"] <= 1
        shown = vmount.run("status", mnt).stdout.decode()
        for word in ("fetched", "ahead", "in memory", "requests", "in flight"):
            assert word in shown
