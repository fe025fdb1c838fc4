"""The opener of local files runs the suite of FileOpener."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contracts.file_opener import FILES, FileOpenerContract
from vmount.runtime import InlineRuntime
from vmount.sources.local_opener import LocalFileOpener


class TestLocalFiles(FileOpenerContract):
    @pytest.fixture
    def names(self, tmp_path: Path) -> dict[str, str]:
        for path, content in FILES.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
        return {path: str(tmp_path / path) for path in FILES}

    @pytest.fixture
    def opener(self) -> Iterator[LocalFileOpener]:
        with ExitStack() as stack:
            yield LocalFileOpener(InlineRuntime(), stack)
