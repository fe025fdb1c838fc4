"""A volume of ext runs the suite of Filesystem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.contracts.filesystem import FilesystemContract
from tests.support.parsers.reading import FileReader
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.reader import run_sync

if TYPE_CHECKING:
    from fixtures.ext import ExtFixture
    from vmount.parsers.model import Filesystem


class TestContract(FilesystemContract):
    @pytest.fixture
    def source(self, ext_volume: Callable[[str], ExtFixture]) -> Iterator[FileReader]:
        reader = FileReader(ext_volume("ext4-default").image)
        yield reader
        reader.close()

    @pytest.fixture
    def filesystem(self, source: FileReader) -> Filesystem:
        return run_sync(open_ext(source))
