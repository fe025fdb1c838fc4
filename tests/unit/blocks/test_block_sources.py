"""The BlockSources of vmount keep the contract."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from tests.contracts.block_source import check_block_source
from vmount.backends.local_file import LocalFile
from vmount.blocks.slices import Slice
from vmount.parsers.reader import BytesReader
from vmount.runtime import InlineRuntime, TrioRuntime

CONTENT = random.Random(7).randbytes(300_001)


async def test_bytes_in_memory() -> None:
    await check_block_source(BytesReader(CONTENT), CONTENT)


async def test_a_slice() -> None:
    await check_block_source(Slice(BytesReader(CONTENT), 1000, 123_457), CONTENT[1000:124_457])


@pytest.mark.parametrize("runtime", [InlineRuntime(), TrioRuntime()])
async def test_a_file(tmp_path: Path, runtime: InlineRuntime | TrioRuntime) -> None:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    source = LocalFile(path, runtime)
    await check_block_source(source, CONTENT)
    source.close()
    source.close()


@pytest.mark.requirement("R44")
async def test_a_file_that_became_shorter_is_an_error_and_never_zeros(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(CONTENT)
    source = LocalFile(path, TrioRuntime())
    with path.open("r+b") as file:
        file.truncate(1000)
    assert bytes(await source.read(0, 1000)) == CONTENT[:1000]
    with pytest.raises(OSError, match="has shrunk below") as caught:
        await source.read(500, 1000)
    assert caught.value.errno == errno.EIO
    assert caught.value.filename == str(path)


async def test_only_files_and_block_devices_are_opened(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        LocalFile(tmp_path, TrioRuntime())
    with pytest.raises(OSError, match="not a file or a block device"):
        LocalFile(Path("/dev/null"), TrioRuntime())
