"""A datastore in a folder runs the suites of DatastoreBackend and, through its opener, of FileOpener."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.datastore_backend import DatastoreBackendContract
from tests.contracts.file_opener import FILES, FileOpenerContract
from vmount.cache import CacheOptions
from vmount.datastores.folder import FolderBackend
from vmount.datastores.opener import DatastoreOpener
from vmount.datastores.path import DatastorePath
from vmount.runtime import TrioRuntime

STORE = "store [1]"


@pytest.fixture
def backend(tmp_path: Path) -> FolderBackend:
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return FolderBackend({STORE: tmp_path}, TrioRuntime())


class TestBackend(DatastoreBackendContract):
    @pytest.fixture
    def file(self) -> tuple[DatastorePath, bytes]:
        path = "web/web-flat.vmdk"
        return DatastorePath(STORE, path), FILES[path]


class TestOpener(FileOpenerContract):
    @pytest.fixture
    async def opener(self, backend: FolderBackend) -> AsyncIterator[DatastoreOpener]:
        opener = DatastoreOpener(backend, None, CacheOptions(), {"elsewhere": STORE})
        yield opener
        await opener.aclose()

    @pytest.fixture
    def names(self) -> dict[str, str]:
        return {path: str(DatastorePath(STORE, path)) for path in FILES}
