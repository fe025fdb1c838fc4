"""A volume of NTFS runs the suite of Filesystem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.filesystem import FilesystemContract
from vmount.parsers.ntfs import open_ntfs
from vmount.parsers.reader import run_sync

if TYPE_CHECKING:
    from tests.support.parsers.ntfs.reading import FileReader
    from vmount.parsers.model import Filesystem


class TestContract(FilesystemContract):
    @pytest.fixture
    def source(self, small_reader: FileReader) -> FileReader:
        return small_reader

    @pytest.fixture
    def filesystem(self, source: FileReader) -> Filesystem:
        return run_sync(open_ntfs(source))
