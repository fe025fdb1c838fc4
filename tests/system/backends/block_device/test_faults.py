"""Devices that change, shrink, vanish, refuse or never answer: the right bytes or an error, never zeros."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.backends.nbd.servers import STARTING, listen_unix, nbdkit, need, running, uri_of
from tests.support.loop_devices import attached
from vmount.backends.base import BackendClosed, BackendError, BackendTimeout
from vmount.backends.block_device import DirectOptions, open_direct

MIB = 1 << 20


@pytest.mark.requirement("R43")
async def test_the_device_read_again_shows_its_new_content(image: Path, device: Path) -> None:
    through_the_page_cache = device.read_bytes()
    assert through_the_page_cache == image.read_bytes()
    lun = await open_direct(device)
    assert await lun.read(MIB, 4096) == through_the_page_cache[MIB : MIB + 4096]
    new = random.Random(8).randbytes(4096)
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(new)
    assert await lun.read(MIB, 4096) == new
    await lun.aclose()
    again = await open_direct(device)
    assert await again.read(MIB - 1, 4098) == image.read_bytes()[MIB - 1 : MIB + 4097]
    await again.aclose()


@pytest.mark.requirement("R44")
async def test_a_lun_that_loses_its_end_gives_eio(image: Path, device: Path) -> None:
    expected = image.read_bytes()
    lun = await open_direct(device)
    os.truncate(image, MIB)
    for offset, length in ((2 * MIB, 512), (MIB - 512, 1024), (0, lun.size)):
        with pytest.raises(BackendError, match=str(device)) as caught:
            await lun.read(offset, length)
        assert caught.value.errno == errno.EIO
    assert await lun.read(0, MIB) == expected[:MIB]
    await lun.aclose()


@pytest.mark.requirement("R44")
@pytest.mark.parametrize("kept", [MIB, MIB + 512, MIB + 5])
async def test_a_file_that_becomes_shorter_gives_eio(image: Path, kept: int) -> None:
    expected = image.read_bytes()
    lun = await open_direct(image)
    os.truncate(image, kept)
    with pytest.raises(BackendError, match="shorter than") as caught:
        await lun.read(MIB - 4096, 8192 + 512)
    assert caught.value.errno == errno.EIO
    assert await lun.read(0, MIB) == expected[:MIB]
    await lun.aclose()


@pytest.mark.requirement("R44")
async def test_a_device_without_a_medium_is_refused(image: Path, device: Path) -> None:
    os.truncate(image, 0)
    run("losetup", "--set-capacity", str(device))
    with pytest.raises(BackendError, match="offline"):
        await open_direct(device)


@pytest.mark.requirement("R44")
async def test_a_lun_that_cannot_be_read_is_refused_at_open(image: Path, device: Path) -> None:
    os.truncate(image, 0)
    with pytest.raises(BackendError, match="Input/output error") as caught:
        await open_direct(device)
    assert caught.value.errno == errno.EIO


@pytest.mark.requirement("R48")
async def test_a_write_protected_device(image: Path) -> None:
    with attached(image, read_only=False) as device:
        run("blockdev", "--setro", str(device))
        try:
            lun = await open_direct(device)
            assert await lun.read(0, lun.size) == image.read_bytes()
            await lun.aclose()
        finally:
            # The flag would outlive the image, and the next user of the loop device could not write.
            run("blockdev", "--setrw", str(device))


@pytest.mark.parametrize("name", ["nothing", "folder", "pipe"])
async def test_what_is_no_device(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BackendError, match=name):
        await open_direct(tmp_path / name)


@pytest.mark.requirement("R38")
async def test_a_device_that_does_not_answer(image: Path, tmp_path: Path) -> None:
    """A file of a FUSE mount whose server is stopped blocks as a LUN without a path does."""
    options = DirectOptions(threads=2, timeout=0.3)
    with stoppable(image, tmp_path) as (file, server):
        lun = await open_direct(file, DirectOptions(threads=2, timeout=30))
        await lun.aclose()
        lun = await open_direct(file, options)
        os.kill(server, signal.SIGSTOP)
        try:
            for _ in range(3):  # more than there are threads
                with pytest.raises(BackendTimeout, match="no answer"):
                    await lun.read(MIB, MIB)
            await lun.aclose()
            with pytest.raises(BackendClosed):
                await lun.read(0, 1)
        finally:
            os.kill(server, signal.SIGCONT)


async def test_opening_a_device_that_does_not_answer(image: Path, tmp_path: Path) -> None:
    with stoppable(image, tmp_path) as (file, server):
        os.kill(server, signal.SIGSTOP)
        try:
            with pytest.raises(BackendTimeout, match="no answer"):
                await open_direct(file, DirectOptions(timeout=0.3))
        finally:
            os.kill(server, signal.SIGCONT)


@pytest.mark.requirement("R27")
async def test_nothing_stays_open(device: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        lun = await open_direct(device)
        await lun.read(0, 4096)
        await lun.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


@contextmanager
def stoppable(image: Path, folder: Path) -> Iterator[tuple[Path, int]]:
    """Show an image as a file that nbdfuse serves; yield it and nbdfuse's process number."""
    need("nbdfuse")
    mountpoint = folder / "nbdfuse"
    mountpoint.mkdir()
    listener = listen_unix(folder / "socket")
    with running(nbdkit("--readonly", "file", str(image)), listener):
        command = ["nbdfuse", "-r", str(mountpoint), uri_of(listener)]
        with subprocess.Popen(command) as nbdfuse:
            try:
                deadline = time.monotonic() + STARTING
                while not (mountpoint / "nbd").exists():
                    assert time.monotonic() < deadline, "nbdfuse does not serve"
                yield mountpoint / "nbd", nbdfuse.pid
            finally:
                subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], check=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True)
