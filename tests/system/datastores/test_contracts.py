"""Datastores on LUNs and on the web run the suites of DatastoreBackend and of FileOpener."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from tests.contracts.datastore_backend import DatastoreBackendContract
from tests.contracts.file_opener import FILES, FileOpenerContract
from tests.support.datastores.vmfs_luns import copy_of, put, unpack
from tests.support.loop_devices import attached
from tests.system.datastores.conftest import STORE, Places
from vmount.backends.block_device import DirectOptions
from vmount.cache import CacheOptions
from vmount.datastores.base import DatastoreBackend
from vmount.datastores.lun_choice import LunChoice
from vmount.datastores.opener import DatastoreOpener
from vmount.datastores.path import DatastorePath
from vmount.datastores.san import SanBackend

TEXT = b"# Disk DescriptorFile".ljust(473, b"\n")
"""Of the size of normal.vmdk on the LUNs."""


@pytest.fixture(scope="module")
def luns(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return unpack(tmp_path_factory.mktemp("luns"))


class TestLuns(DatastoreBackendContract):
    @pytest.fixture(params=[5, 6])
    def version(self, request: pytest.FixtureRequest) -> int:
        return int(request.param)

    @pytest.fixture
    def device(self, luns: dict[int, Path], version: int, tmp_path: Path) -> Iterator[Path]:
        image = copy_of(luns[version], tmp_path / "lun.img")
        put(image, "normal.vmdk", TEXT)
        with attached(image) as device:
            yield device

    @pytest.fixture
    async def backend(self, device: Path, nursery: trio.Nursery) -> AsyncIterator[SanBackend]:
        backend = SanBackend(LunChoice((str(device),)), nursery, DirectOptions())
        yield backend
        await backend.aclose()

    @pytest.fixture
    def file(self, version: int) -> tuple[DatastorePath, bytes]:
        return DatastorePath(f"vmfs{version}", "normal.vmdk"), TEXT


@pytest.fixture
def on_the_web(places: Places) -> DatastoreBackend:
    for path, content in FILES.items():
        (places.folder / path).parent.mkdir(exist_ok=True)
        (places.folder / path).write_bytes(content)
    return places.open["https"](STORE)


class TestWeb(DatastoreBackendContract):
    @pytest.fixture
    def backend(self, on_the_web: DatastoreBackend) -> DatastoreBackend:
        return on_the_web

    @pytest.fixture
    def file(self) -> tuple[DatastorePath, bytes]:
        path = "web/web-flat.vmdk"
        return DatastorePath(STORE, path), FILES[path]


class TestOpenerOnTheWeb(FileOpenerContract):
    @pytest.fixture
    async def opener(
        self, on_the_web: DatastoreBackend, nursery: trio.Nursery
    ) -> AsyncIterator[DatastoreOpener]:
        opener = DatastoreOpener(on_the_web, nursery, CacheOptions(), {"elsewhere": STORE})
        yield opener
        await opener.aclose()

    @pytest.fixture
    def names(self) -> dict[str, str]:
        return {path: str(DatastorePath(STORE, path)) for path in FILES}
