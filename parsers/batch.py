"""Reading many pieces of one size with few requests.

Strategy: whoever needs several pieces says so at once. Neighbours become one read, and all reads are
announced by `prefetch` before the first is awaited, so that a distant disk is asked for them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from parsers.model import Run
from parsers.reader import Reader, Span

MAX_READ = 1 << 20
"""Bytes asked for at once: larger reads gain nothing and hold up the others."""
MERGE_GAP = 32 << 10
"""Bytes between two pieces that are cheaper to read along than to leave out with a second request."""


async def read_pieces(reader: Reader, offsets: Iterable[int], length: int) -> dict[int, bytes]:
    """Return the `length` bytes at each of `offsets`, by offset."""
    ascending = sorted(set(offsets))
    spans = merge_neighbours(ascending, length)
    if len(spans) > 1:
        reader.prefetch(spans)
    pieces = {}
    position = 0
    for span in spans:
        data = memoryview(await reader.read(*span))
        end = span.offset + span.length
        while position < len(ascending) and ascending[position] < end:
            start = ascending[position] - span.offset
            pieces[ascending[position]] = bytes(data[start : start + length])
            position += 1
    return pieces


async def read_runs(reader: Reader, runs: Iterable[Run]) -> bytes:
    """Return the bytes of runs that follow each other in a file; holes are zeros."""
    parts = [
        (start if run.start is None else start + run.start - run.offset, run.start is None, size)
        for run in runs
        for start in range(run.offset, run.offset + run.length, MAX_READ)
        for size in [min(MAX_READ, run.offset + run.length - start)]
    ]
    spans = [Span(start, size) for start, is_hole, size in parts if not is_hole]
    if len(spans) > 1:
        reader.prefetch(spans)
    return b"".join(
        [
            bytes(size) if is_hole else await reader.read(start, size)
            for start, is_hole, size in parts
        ]
    )


def merge_neighbours(offsets: Sequence[int], length: int) -> list[Span]:
    """Return the reads that bring `length` bytes at each of `offsets`, which ascend."""
    if not offsets:
        return []
    spans = []
    start = offsets[0]
    for previous, offset in pairwise(offsets):
        if offset - previous - length > MERGE_GAP or offset + length - start > MAX_READ:
            spans.append(Span(start, previous + length - start))
            start = offset
    spans.append(Span(start, offsets[-1] + length - start))
    return spans
