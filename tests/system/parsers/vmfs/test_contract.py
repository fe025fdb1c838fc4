"""A datastore that ESXi made runs the suite of Filesystem."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tests.contracts.filesystem import FilesystemContract
from tests.support.parsers.vmfs.readers import FileReader
from vmount.datastores.san import Datastore, DatastoreBytes
from vmount.parsers.reader import run_sync
from vmount.parsers.vmfs.filesystem import Vmfs, open_vmfs

if TYPE_CHECKING:
    from pathlib import Path


class TestContract(FilesystemContract):
    @pytest.fixture
    def lun(self, luns: dict[str, Path], name: str) -> FileReader:
        return FileReader(luns[name])

    @pytest.fixture
    def filesystem(self, lun: FileReader) -> Vmfs:
        return run_sync(open_vmfs([lun]))

    @pytest.fixture
    def source(self, lun: FileReader, filesystem: Vmfs) -> DatastoreBytes:
        store = SimpleNamespace(filesystem=filesystem, luns=[SimpleNamespace(source=lun)])
        return DatastoreBytes(cast("Datastore", store))
