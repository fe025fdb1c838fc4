"""A front end of its own stands on what is assembled, without FUSE."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from fixtures.programs import run
from vmount.disk_set import OpenDiskSet
from vmount.errors import BusyError, UsageError
from vmount.mounting.assemble import assemble
from vmount.runtime import TrioRuntime
from vmount.tree.paths import resolve


class Page:
    """A front end that counts, as a web page would."""

    def __init__(self) -> None:
        self.open_files = 0
        self.bytes_read = 0
        self.cut: list[int] = []
        self.forgotten: list[tuple[int, bytes]] = []

    def has_open(self, volumes: Sequence[int]) -> bool:
        return self.open_files > 0

    def cut_off(self, volumes: Sequence[int]) -> None:
        self.cut += volumes

    async def forget_names(self, names: Sequence[tuple[int, bytes]]) -> None:
        self.forgotten += names


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("assemble")
    (top / "tree").mkdir()
    (top / "tree/file").write_text("kept\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(top / "tree"), str(top / "e.img"), "4M")
    return top / "e.img"


async def test_another_front_end_reads_files_and_dismounts_volumes(image: Path) -> None:
    async with trio.open_nursery() as nursery:
        manager = await OpenDiskSet.open([str(image)], TrioRuntime(nursery))
        page = Page()
        made = assemble(manager, nursery, top="https://here", sources=["e.img"])
        mounts = made.connect(page)
        number, attrs = await resolve(made.tree, b"disk0/file")
        content = await made.walker.open(number)
        assert bytes(await content.read(0, attrs.size)) == b"kept\n"
        page.open_files, page.bytes_read = 1, attrs.size
        status = made.statistics.now()
        assert (status["open_files"], status["bytes_read"]) == (1, 5)
        assert [state.path for state in mounts.states()] == ["https://here/volumes/disk0"]
        with pytest.raises(BusyError):
            await mounts.dismount("disk0")
        state = await mounts.dismount("disk0", force=True)
        assert state.path is None
        assert page.cut
        assert page.forgotten
        with pytest.raises(UsageError):
            made.connect(page, ["disk7"])
        await manager.aclose()
        nursery.cancel_scope.cancel()


def test_assembling_loads_no_fuse() -> None:
    script = "import sys, vmount.mounting.assemble; assert 'pyfuse3' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
