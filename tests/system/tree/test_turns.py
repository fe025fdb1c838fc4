"""A parser at work on what is in memory lets others run."""

from __future__ import annotations

import trio

from vmount.parsers.reader import BytesReader, let_others_run, run_sync
from vmount.runtime import InlineRuntime, TrioRuntime


async def test_a_long_walk_lets_others_run() -> None:
    reader = TrioRuntime().considerate(BytesReader(bytes(1000)))
    has_run = trio.Event()

    async def other() -> None:
        has_run.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while not has_run.is_set():
                assert await reader.read(100, 3) == bytes(3)
                await let_others_run(reader)


def test_without_an_event_loop_nothing_suspends() -> None:
    source = BytesReader(b"abc")
    reader = InlineRuntime().considerate(source)
    assert reader is source
    run_sync(let_others_run(reader))
