"""Every kind of FileMap runs the suite of FileMap."""

from __future__ import annotations

import pytest

from tests.contracts.file_map import FileMapContract
from tests.unit.blocks.test_file_map import VOLUME, Reversed, reversed_content
from vmount.blocks.file_map import FileMap, SourceFile, open_file
from vmount.parsers.model import FileData, Inline, Packed, Run, Runs
from vmount.parsers.reader import BytesReader
from vmount.parsers.runs import RunList


class TestRuns(FileMapContract):
    @pytest.fixture
    def file_map(self) -> FileMap:
        runs = RunList.of([Run(0, 5000, 300), Run(5000, 4000, None), Run(9000, 2000, 20_000)])
        return open_file(BytesReader(VOLUME), FileData(12_000, 10_500, Runs(runs)))

    @pytest.fixture
    def content(self) -> bytes:
        return VOLUME[300:5300] + bytes(4000) + VOLUME[20_000:21_500] + bytes(1500)


class TestInline(FileMapContract):
    @pytest.fixture
    def file_map(self) -> FileMap:
        return open_file(BytesReader(VOLUME), FileData(700, 600, Inline(VOLUME[:650])))

    @pytest.fixture
    def content(self) -> bytes:
        return VOLUME[:600] + bytes(100)


class TestPacked(FileMapContract):
    @pytest.fixture
    def file_map(self) -> FileMap:
        return open_file(BytesReader(VOLUME), FileData(9000, 8000, Packed(Reversed())))

    @pytest.fixture
    def content(self) -> bytes:
        return reversed_content(9000)[:8000] + bytes(1000)


class TestAWholeSource(FileMapContract):
    @pytest.fixture
    def file_map(self) -> FileMap:
        return SourceFile(BytesReader(VOLUME))

    @pytest.fixture
    def content(self) -> bytes:
        return VOLUME
