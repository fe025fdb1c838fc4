"""A listing of many names lets others run, and ends where there is no memory for them."""

from __future__ import annotations

import errno
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from vmount.blocks.memory import MemoryBudget, TooLarge
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.reader import Buffer, BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

NAMES = 5_000


class CountingReader(BytesReader):
    """Counts turns; `limit` is how many names of a directory there is memory for."""

    def __init__(self, data: bytes, limit: int) -> None:
        super().__init__(data)
        self.turns = 0
        self.read_bytes = 0
        self._limit = limit

    async def read(self, offset: int, length: int) -> Buffer:
        self.turns += not length
        self.read_bytes += length
        return await super().read(offset, length)

    def check_names(self, names: int) -> None:
        if names > self._limit:
            raise TooLarge(f"a directory of {names} names or more", names, self._limit)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if shutil.which("mke2fs") is None:
        pytest.skip("e2fsprogs is not installed")
    folder: Path = tmp_path_factory.mktemp("many")
    image = folder / "many.img"
    # Links to one file: many names, and quick to make.
    names = folder / "top" / "names"
    names.mkdir(parents=True)
    (names / "file-00000").write_bytes(b"x")
    for number in range(1, NAMES):
        (names / f"file-{number:05}").hardlink_to(names / "file-00000")
    subprocess.run(
        [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-d",
            names.parent,
            image,
            "16M",
        ],
        check=True,
    )
    return image.read_bytes()


async def _list(reader: CountingReader) -> int:
    filesystem = await open_ext(reader)
    found = await filesystem.lookup(filesystem.root, b"names")
    assert found is not None
    return len(await filesystem.listdir(found.ino))


@pytest.mark.requirement("R16")
def test_a_listing_gives_turns_in_proportion_to_its_names(volume: bytes) -> None:
    reader = CountingReader(volume, NAMES)
    assert run_sync(_list(reader)) == NAMES
    assert reader.turns >= NAMES // 1024


@pytest.mark.requirement("R16")
def test_a_listing_ends_before_it_has_all_names(volume: bytes) -> None:
    reader = CountingReader(volume, NAMES // 8)
    with pytest.raises(TooLarge) as caught:
        run_sync(_list(reader))
    assert caught.value.errno == errno.ENOMEM
    assert caught.value.wanted < NAMES // 2


def test_a_budget_refuses_names_before_they_are_kept() -> None:
    budget = MemoryBudget(64 << 20)
    budget.check_names(30_000)
    # What a listing takes while it is made counts too: it would fit once it is done.
    with pytest.raises(TooLarge):
        budget.check_names(50_000)
    assert budget.held == 0
