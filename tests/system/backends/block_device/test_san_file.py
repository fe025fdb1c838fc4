"""Files in pieces on LUNs: the contract of backends, and what is refused when they are opened."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contracts.backend import BackendContract
from tests.support.loop_devices import attached
from vmount.backends.base import Backend, BackendError
from vmount.backends.block_device import open_direct
from vmount.backends.san_file import LunRun, open_san_file

KIB = 1 << 10
BLOCK = 64 * KIB


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    chance = random.Random(11)
    found = [tmp_path / f"lun{index}.img" for index in range(2)]
    for path in found:
        path.write_bytes(chance.randbytes(48 * BLOCK))
    return found


@pytest.fixture
def runs() -> list[LunRun]:
    """60 blocks in disorder over two LUNs, with holes, neighbours that belong together, a short end."""
    chance = random.Random(12)
    places: list[tuple[int | None, int]] = [(lun, block) for lun in (0, 1) for block in range(24)]
    chance.shuffle(places)
    places[30:30] = [(0, 40), (0, 41), (0, 42), (None, 0), (None, 0), (1, 30)]
    places += [(None, 0)] * 5 + [(1, 47)]
    return [
        LunRun(index * BLOCK, BLOCK, lun, block * BLOCK)
        for index, (lun, block) in enumerate(places)
    ]


@pytest.fixture
def devices(images: list[Path]) -> Iterator[list[Path]]:
    with attached(images[0]) as first, attached(images[1]) as second:
        yield [first, second]


class TestSanFile(BackendContract):
    @pytest.fixture
    def reference(self, images: list[Path], runs: list[LunRun]) -> bytes:
        """What dd would put together of the images."""
        parts = []
        for run in runs:
            if run.lun is None:
                parts.append(bytes(run.length))
            else:
                with images[run.lun].open("rb") as file:
                    file.seek(run.start)
                    parts.append(file.read(run.length))
        return b"".join(parts)[: -3 * 512]

    @pytest.fixture
    async def backend(
        self, reference: bytes, runs: list[LunRun], devices: list[Path]
    ) -> AsyncIterator[Backend]:
        luns = [await open_direct(device) for device in devices]
        yield await open_san_file("[ds] a/a-flat.vmdk", len(reference), runs, luns)
        for lun in luns:
            await lun.aclose()


@pytest.mark.requirement("R44")
async def test_a_lun_that_is_shorter_than_the_file(devices: list[Path]) -> None:
    luns = [await open_direct(device) for device in devices]
    with pytest.raises(BackendError, match=r"LUN 2 .* shrunk"):
        await open_san_file("x", BLOCK, [LunRun(0, BLOCK, 1, luns[1].size - 512)], luns)
    for lun in luns:
        await lun.aclose()


@pytest.mark.requirement("R45")
@pytest.mark.parametrize("kept", [0, 20 * BLOCK])
async def test_a_lun_that_cannot_be_read(
    images: list[Path], runs: list[LunRun], devices: list[Path], kept: int
) -> None:
    """It is visible, and its header may be there: but not the file's bytes."""
    luns = [await open_direct(device) for device in devices]
    os.truncate(images[1], kept)
    with pytest.raises(BackendError, match="Input/output error"):
        await open_san_file("x", BLOCK, runs, luns)
    for lun in luns:
        await lun.aclose()


@pytest.mark.requirement("R44")
async def test_an_error_in_one_piece_is_the_error_of_the_read(
    images: list[Path], runs: list[LunRun], devices: list[Path]
) -> None:
    luns = [await open_direct(device) for device in devices]
    file = await open_san_file("x", len(runs) * BLOCK, runs, luns)
    os.truncate(images[0], 0)
    with pytest.raises(BackendError, match="Input/output error"):
        await file.read(0, file.size)
    for lun in luns:
        await lun.aclose()
