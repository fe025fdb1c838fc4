"""A local folder, and the source in memory that tests use, run the suite of FileSource."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.contracts.file_source import FILES, HARD_LINK, LINK, FileSourceContract
from tests.support.jobs.files_in_memory import FilesInMemory, Node, link
from vmount.jobs.local_folder import FolderSet


class TestLocalFolder(FileSourceContract):
    @pytest.fixture
    def top(self) -> str:
        return "some/folder"

    @pytest.fixture
    def files(self, tmp_path: Path, top: str) -> FolderSet:
        folder = tmp_path / top
        for path, content in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        (folder / LINK[0]).symlink_to(LINK[1])
        os.link(folder / HARD_LINK[1], folder / HARD_LINK[0])
        return FolderSet(tmp_path)

    def test_neither_links_nor_pipes_are_opened(
        self, files: FolderSet, top: str, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / top / "pipe")
        for name in ("pipe", LINK[0]):
            with pytest.raises(OSError, match=r"."):
                files.open(f"{top}/{name}")
        assert stat.S_ISLNK(files.stat(f"{top}/{LINK[0]}", follow=False).mode)


class TestFilesInMemory(FileSourceContract):
    @pytest.fixture
    def top(self) -> str:
        return "v"

    @pytest.fixture
    def files(self, top: str) -> FilesInMemory:
        linked = Node(FILES[HARD_LINK[1]], number=1, nlink=2)
        nodes: dict[str, Node | bytes] = {
            f"{top}/{path}": content for path, content in FILES.items()
        }
        nodes |= {f"{top}/{path}": linked for path in HARD_LINK}
        return FilesInMemory(nodes | {f"{top}/{LINK[0]}": link(LINK[1])})
