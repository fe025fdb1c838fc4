"""Guesses about a walk over a real ext volume, behind a real server whose traffic is counted."""

from __future__ import annotations

import random
import subprocess
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.support.backends.nbd.servers import listen_unix, nbdkit, running, uri_of
from vmount.cache import LINE
from vmount.disk_set import OpenDiskSet
from vmount.runtime import TrioRuntime
from vmount.tree.builder import build_tree
from vmount.tree.read_ahead import NEAR
from vmount.tree.walk_ahead import Order, WalkAhead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from vmount.tree.tree import Tree

FILES = 200
SIZE = 40_000
"""Bytes of each small file."""
BIG = 24 << 20

LISTED = [(b"c", 1), (b"a", 2), (b"d", 3), (b"b", 4)]


def test_nothing_is_known_before_the_first_visit() -> None:
    assert Order(LISTED).next(1) is None
    assert not Order(LISTED).is_finished


@pytest.mark.parametrize("walk", [[1, 2, 3, 4], [2, 4, 1, 3]], ids=["listed", "by name"])
def test_the_order_of_a_walk_is_learnt(walk: list[int]) -> None:
    order = Order(LISTED)
    order.visit(walk[0])
    order.visit(walk[1])
    assert order.next(walk[1]) == walk[2]
    assert list(order.following(1)) == walk[2:]
    assert list(order.following(1)) == []
    assert order.ahead == 2
    order.visit(walk[2])
    order.visit(walk[3])
    assert order.next(walk[3]) is None
    assert order.is_finished


def test_a_new_attempt_yields_again_what_was_not_visited() -> None:
    order = Order(LISTED)
    order.visit(1)
    order.visit(2)
    assert list(islice(order.following(1), 1)) == [3]
    assert list(order.following(2)) == [3, 4]


def test_a_walk_in_order_may_pass_some_over_and_begin_again() -> None:
    order = Order([(bytes([letter]), letter) for letter in range(20)])
    assert [order.visit(number) for number in (3, 4, 6, 10, 15, 0, 1)] == [
        *(True, True, True, True),  # from the beginning: three are passed over
        *(False, False, True),
    ]
    assert next(iter(order.following(1))) == 2


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk")
    tree, path = folder / "tree", folder / "disk.img"
    chance = random.Random(17)
    (tree / "many").mkdir(parents=True)
    for number in range(FILES):
        (tree / "many" / f"file{number:03}").write_bytes(chance.randbytes(SIZE))
    (tree / "big").write_bytes(chance.randbytes(BIG))
    (tree / "liar").mkdir()
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d", tree, path], check=True
    )
    return path


@asynccontextmanager
async def walker_of(image: Path, folder: Path) -> AsyncIterator[tuple[WalkAhead, Tree, Any]]:
    """Open the image through nbdkit; yield also a function that gives the disk's counters."""
    listener = listen_unix(folder / "socket")
    with running(nbdkit("file", str(image)), listener):
        async with trio.open_nursery() as nursery:
            manager = await OpenDiskSet.open([uri_of(listener)], TrioRuntime(nursery))
            try:
                tree = build_tree(manager, lambda: b"", lambda: b"")
                remote = manager.disks[0].remote
                assert remote is not None
                yield WalkAhead(tree, nursery), tree, remote.stats
            finally:
                await manager.aclose()
                nursery.cancel_scope.cancel()


async def number_of(walker: WalkAhead, tree: Tree, *names: bytes) -> int:
    """Go down a path as the kernel does: list, then take an entry."""
    number = 1
    for name in (b"volumes", b"disk0", *names):
        listing = await walker.listdir(number)
        number = next(listing.base | e.ino for e in listing.entries if e.name == name)
    return number


async def small_files(walker: WalkAhead, tree: Tree) -> list[int]:
    listing = await walker.listdir(await number_of(walker, tree, b"many"))
    return [listing.base | e.ino for e in sorted(listing.entries, key=lambda e: e.name)]


async def quiet(stats: Any) -> dict[str, Any]:
    """Wait until no request is under way, and return the counters."""
    with trio.fail_after(10):
        while True:
            await trio.testing.wait_all_tasks_blocked(0.05)
            found: dict[str, Any] = stats()
            if not found["in_flight"]:
                return found


async def test_the_first_file_alone_asks_for_nothing(image: Path, tmp_path: Path) -> None:
    async with walker_of(image, tmp_path) as (walker, tree, stats):
        files = await small_files(walker, tree)
        before = (await quiet(stats))["bytes_fetched"]
        await walker.open(files[50])
        assert (await quiet(stats))["bytes_fetched"] - before <= 2 * LINE


async def test_files_opened_here_and_there_fetch_nothing_ahead(image: Path, tmp_path: Path) -> None:
    async with walker_of(image, tmp_path) as (walker, tree, stats):
        files = await small_files(walker, tree)
        before = (await quiet(stats))["bytes_fetched"]
        for number in files[::-40]:
            await walker.open(number)
        assert (await quiet(stats))["bytes_fetched"] - before <= 2 * LINE * len(files[::-40])


async def test_a_walk_by_name_finds_its_files_fetched(image: Path, tmp_path: Path) -> None:
    async with walker_of(image, tmp_path) as (walker, tree, stats):
        for number in await small_files(walker, tree):
            content = await walker.open(number)
            assert len(await content.read(0, content.size)) == SIZE
        found = await quiet(stats)
        assert found["prefetch_used"] > FILES * SIZE // 2
        assert found["bytes_fetched"] < 2 * FILES * SIZE


async def test_jumps_fetch_nothing_ahead(image: Path, tmp_path: Path) -> None:
    """Jumps of more than NEAR; shorter ones may count as reading in order and open the window."""
    async with walker_of(image, tmp_path) as (walker, tree, stats):
        content = await walker.open(await number_of(walker, tree, b"big"))
        before = (await quiet(stats))["bytes_fetched"]
        chance = random.Random(2)
        offset = 0
        for _ in range(40):
            offset = (offset + chance.randrange(2 * NEAR, BIG - 2 * NEAR)) % (BIG - 4096)
            if content.try_read(offset, 4096) is None:
                await content.read(offset, 4096)
        assert (await quiet(stats))["bytes_fetched"] - before <= 40 * 2 * LINE


async def test_a_reader_in_order_finds_its_data_fetched(image: Path, tmp_path: Path) -> None:
    async with walker_of(image, tmp_path) as (walker, tree, stats):
        content = await walker.open(await number_of(walker, tree, b"big"))
        for offset in range(0, BIG, 1 << 20):
            if content.try_read(offset, 1 << 20) is None:
                await content.read(offset, 1 << 20)
        found = await quiet(stats)
        assert found["prefetch_used"] > BIG * 3 // 4
        assert found["bytes_fetched"] < BIG + (4 << 20)


async def test_an_entry_that_lies_about_its_type(image: Path, tmp_path: Path) -> None:
    """The inode is a directory's, the entry says regular file: the walk goes on."""
    data = bytearray(image.read_bytes())
    entry = data.find(b"\x04\x02liar")
    assert entry > 0
    data[entry + 1] = 1
    forged = tmp_path / "forged.img"
    forged.write_bytes(data)
    async with walker_of(forged, tmp_path) as (walker, tree, _):
        assert (await walker.listdir(await number_of(walker, tree, b"liar"))).entries == []


def test_a_visitor_who_is_no_member_is_passed_over() -> None:
    order = Order([(b"a", 1), (b"b", 2)])
    order.visit(7)
    assert order.visits == 0
    assert order.next(7) is None
    order.visit(1)
    assert order.next(1) == 2
