"""What every DatastoreBackend does. A test module inherits DatastoreBackendContract and gives two fixtures."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from vmount.datastores.base import DirectFile, DistantFile
from vmount.parsers.errors import OutOfBounds

if TYPE_CHECKING:
    from vmount.datastores.base import DatastoreBackend
    from vmount.datastores.path import DatastorePath


async def content_of(opened: DirectFile | DistantFile) -> bytes:
    """Read a whole file and close it."""
    source = opened.source if isinstance(opened, DirectFile) else opened.transport
    data = bytes(await source.read(0, source.size))
    await (opened.aclose() if isinstance(opened, DirectFile) else opened.transport.aclose())
    return data


class DatastoreBackendContract:
    """Fixtures wanted: `backend`, and `file`, the path and the bytes of a file, not an empty one."""

    async def test_a_file_is_read_whole(
        self, backend: DatastoreBackend, file: tuple[DatastorePath, bytes]
    ) -> None:
        path, content = file
        opened = await backend.open(path)
        if isinstance(opened, DistantFile):
            assert content.startswith(bytes(opened.head))
        assert await content_of(opened) == content

    async def test_two_files_are_open_at_the_same_time(
        self, backend: DatastoreBackend, file: tuple[DatastorePath, bytes]
    ) -> None:
        path, content = file
        one, two = await backend.open(path), await backend.open(path)
        assert await content_of(one) == content
        assert await content_of(two) == content  # closing one leaves the other open

    @pytest.mark.requirement("R23")
    async def test_a_read_over_the_end(
        self, backend: DatastoreBackend, file: tuple[DatastorePath, bytes]
    ) -> None:
        path, content = file
        opened = await backend.open(path)
        source = opened.source if isinstance(opened, DirectFile) else opened.transport
        assert source.size == len(content)
        with pytest.raises(OutOfBounds):
            await source.read(source.size, 1)
        assert await content_of(opened) == content

    @pytest.mark.parametrize("name", ["no such file.vmdk", "no such folder/x.vmdk"])
    async def test_a_missing_file(
        self, backend: DatastoreBackend, file: tuple[DatastorePath, bytes], name: str
    ) -> None:
        path = type(file[0])(file[0].datastore, name)
        with pytest.raises(OSError, match="no such") as raised:
            await backend.open(path)
        assert raised.value.errno == errno.ENOENT
        assert await content_of(await backend.open(file[0])) == file[1]

    async def test_closing_twice(self, backend: DatastoreBackend) -> None:
        await backend.aclose()
        await backend.aclose()
