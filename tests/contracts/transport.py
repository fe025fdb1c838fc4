"""What every Transport does. A test module inherits TransportContract and gives two fixtures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from vmount.datastores.path import DatastorePath
from vmount.errors import VmountError
from vmount.parsers.errors import OutOfBounds, ParseError

if TYPE_CHECKING:
    from vmount.disks.disk import OpenedDisk
    from vmount.transports.base import Transport, WantedDisk


class TransportContract:
    """Fixtures wanted: `transport`, and `disk`, what is wanted and its bytes."""

    async def settle(self, request: pytest.FixtureRequest) -> None:
        """Wait until this system has noticed that a disk was closed."""

    @pytest.mark.requirement("R2")
    async def test_a_disk_is_read_and_closed(
        self, transport: Transport[OpenedDisk], disk: tuple[WantedDisk, bytes]
    ) -> None:
        wanted, content = disk
        opened = await transport.open(wanted)
        assert opened.data.size == len(content)
        assert bytes(await opened.data.read(0, len(content))) == content
        assert bytes(await opened.data.read(513, 1000)) == content[513:1513]
        with pytest.raises(OutOfBounds):
            await opened.data.read(len(content), 1)
        await opened.aclose()
        await opened.aclose()

    async def test_a_disk_is_opened_again(
        self,
        transport: Transport[OpenedDisk],
        disk: tuple[WantedDisk, bytes],
        request: pytest.FixtureRequest,
    ) -> None:
        wanted, content = disk
        for _ in range(2):
            opened = await transport.open(wanted)
            assert bytes(await opened.data.read(0, 512)) == content[:512]
            await opened.aclose()
            await self.settle(request)

    @pytest.mark.requirement("R21")
    async def test_a_missing_disk_is_refused_with_a_reason(
        self, transport: Transport[OpenedDisk], disk: tuple[WantedDisk, bytes]
    ) -> None:
        wanted, content = disk
        missing = DatastorePath(wanted.file.datastore, "no such folder/disk.vmdk")
        with pytest.raises((OSError, ParseError, VmountError)) as raised:
            await transport.open(replace(wanted, file=missing, uuid=""))
        assert str(raised.value)
        opened = await transport.open(wanted)  # and nothing of it stays in the way
        assert bytes(await opened.data.read(0, 512)) == content[:512]
        await opened.aclose()

    async def test_a_cancelled_opening_leaves_nothing(
        self, transport: Transport[OpenedDisk], disk: tuple[WantedDisk, bytes]
    ) -> None:
        wanted, content = disk
        with trio.CancelScope() as scope:
            scope.cancel()
            opened = await transport.open(wanted)
            await opened.aclose()  # one that never waits cannot be cancelled
        opened = await transport.open(wanted)
        assert bytes(await opened.data.read(0, 512)) == content[:512]
        await opened.aclose()

    async def test_name_and_closing_twice(self, transport: Transport[OpenedDisk]) -> None:
        assert transport.name
        await transport.aclose()
        await transport.aclose()
