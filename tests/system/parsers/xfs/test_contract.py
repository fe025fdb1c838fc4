"""A volume of xfs runs the suite of Filesystem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.contracts.filesystem import FilesystemContract
from tests.support.parsers.reading import FileReader
from vmount.parsers.reader import run_sync
from vmount.parsers.xfs.filesystem import open_xfs

if TYPE_CHECKING:
    from fixtures.xfs import XfsFixture
    from vmount.parsers.model import Filesystem


class TestContract(FilesystemContract):
    @pytest.fixture
    def source(self, xfs_volume: Callable[[str], XfsFixture]) -> Iterator[FileReader]:
        reader = FileReader(xfs_volume("xfs-default").image)
        yield reader
        reader.close()

    @pytest.fixture
    def filesystem(self, source: FileReader) -> Filesystem:
        return run_sync(open_xfs(source))
