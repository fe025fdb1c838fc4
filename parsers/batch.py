"""Reading many pieces of one size with few requests.

Strategy: a caller that needs several pieces requests them together. Neighbours become one read, and all reads are
announced by `prefetch` before the first is awaited, so that a distant disk is asked for them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from vmount.parsers.model import Run
from vmount.parsers.reader import Reader, Span

MAX_READ = 1 << 20
"""Bytes asked for at once: larger reads gain nothing and hold up the others."""
MERGE_GAP = 32 << 10
"""Bytes between two pieces that are cheaper to read along than to leave out with a second request."""


async def read_pieces(reader: Reader, offsets: Iterable[int], length: int) -> dict[int, bytes]:
    """Return the `length` bytes at each of `offsets`, by offset."""
    ascending = sorted(set(offsets))
    return dict(zip(ascending, await read_ascending(reader, ascending, length), strict=True))


async def read_ascending(reader: Reader, offsets: Sequence[int], length: int) -> list[bytes]:
    """Return the `length` bytes at each of `offsets`, which ascend."""
    spans = merge_neighbours(offsets, length)
    if len(spans) > 1:
        reader.prefetch(spans)
    pieces: list[bytes] = []
    position = 0
    for span in spans:
        data = bytes(await reader.read(*span))
        end = span.offset + span.length
        while position < len(offsets) and offsets[position] < end:
            start = offsets[position] - span.offset
            pieces.append(data[start : start + length])
            position += 1
    return pieces


async def read_ranges(reader: Reader, spans: Iterable[Span]) -> list[bytes]:
    """Return the bytes of each of `spans`, in parts of MAX_READ at most."""
    parts = [
        Span(position, min(MAX_READ, span.offset + span.length - position))
        for span in spans
        for position in range(span.offset, span.offset + span.length, MAX_READ)
    ]
    if len(parts) > 1:
        reader.prefetch(parts)
    return [bytes(await reader.read(*part)) for part in parts]


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
