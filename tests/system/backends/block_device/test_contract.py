"""The contract of backends, kept over devices and files, with O_DIRECT and without."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contracts.backend import BackendContract
from tests.support.loop_devices import attached
from vmount.backends.base import Backend
from vmount.backends.block_device import DirectOptions, open_direct

WITHOUT_DIRECT = Path("/sys/kernel/btf/vmlinux")
"""A file on a file system that has no O_DIRECT, and that gives at most a page a read."""


class TestDirect(BackendContract):
    @pytest.fixture(params=["loop device", "4096-byte sectors", "file", "no O_DIRECT"])
    def place(self, request: pytest.FixtureRequest, image: Path) -> Iterator[Path]:
        with ExitStack() as stack:
            match request.param:
                case "loop device":
                    yield stack.enter_context(attached(image))
                case "4096-byte sectors":
                    with image.open("r+b") as file:
                        file.truncate(3 << 20)
                    yield stack.enter_context(attached(image, "--sector-size=4096"))
                case "file":
                    yield image
                case _:
                    if not WITHOUT_DIRECT.exists():
                        pytest.skip(f"this kernel has no {WITHOUT_DIRECT}")
                    yield WITHOUT_DIRECT

    @pytest.fixture
    async def backend(self, place: Path) -> AsyncIterator[Backend]:
        device = await open_direct(place, DirectOptions(threads=4))
        assert device.describe()["direct"] is (place != WITHOUT_DIRECT)
        yield device
        await device.aclose()

    @pytest.fixture
    def reference(self, image: Path, place: Path) -> bytes:
        return (place if place == WITHOUT_DIRECT else image).read_bytes()
