"""RAID written down byte by byte: what the sources of vmount are compared with.

The tables are those of md(4), of the comments on the kernel's layouts and of the SNIA DDF specification,
drawn for four columns with one parity and five with two. A digit is the place in the row's data.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from vmount.parsers.reader import Buffer, BytesReader, Span
from vmount.parsers.volume_map import ParityLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

RAID5 = {
    ParityLayout.LEFT_ASYMMETRIC: ["012P", "01P2", "0P12", "P012"],
    ParityLayout.LEFT_SYMMETRIC: ["012P", "12P0", "2P01", "P012"],
    ParityLayout.RIGHT_ASYMMETRIC: ["P012", "0P12", "01P2", "012P"],
    ParityLayout.RIGHT_SYMMETRIC: ["P012", "2P01", "12P0", "012P"],
    ParityLayout.PARITY_FIRST: ["P012"],
    ParityLayout.PARITY_LAST: ["012P"],
}
RAID6 = {
    ParityLayout.LEFT_ASYMMETRIC: ["Q012P", "012PQ", "01PQ2", "0PQ12", "PQ012"],
    ParityLayout.LEFT_SYMMETRIC: ["Q012P", "012PQ", "12PQ0", "2PQ01", "PQ012"],
    ParityLayout.RIGHT_ASYMMETRIC: ["PQ012", "0PQ12", "01PQ2", "012PQ", "Q012P"],
    ParityLayout.RIGHT_SYMMETRIC: ["PQ012", "2PQ01", "12PQ0", "012PQ", "Q012P"],
    ParityLayout.PARITY_FIRST: ["PQ012"],
    ParityLayout.PARITY_LAST: ["012PQ"],
    ParityLayout.ROTATING_ZERO_RESTART: ["PQ012", "0PQ12", "01PQ2", "012PQ", "Q012P"],
    ParityLayout.ROTATING_N_RESTART: ["012PQ", "01PQ2", "0PQ12", "PQ012", "Q012P"],
    ParityLayout.ROTATING_N_CONTINUE: ["012QP", "12QP0", "2QP01", "QP012", "P012Q"],
    ParityLayout.LEFT_ASYMMETRIC_6: ["012PQ", "01P2Q", "0P12Q", "P012Q"],
    ParityLayout.LEFT_SYMMETRIC_6: ["012PQ", "12P0Q", "2P01Q", "P012Q"],
    ParityLayout.RIGHT_ASYMMETRIC_6: ["P012Q", "0P12Q", "01P2Q", "012PQ"],
    ParityLayout.RIGHT_SYMMETRIC_6: ["P012Q", "2P01Q", "12P0Q", "012PQ"],
    ParityLayout.PARITY_FIRST_6: ["P012Q"],
}
DDF = [layout for layout in RAID6 if layout.value.startswith("rotating")]


def multiply(left: int, right: int) -> int:
    """Multiply in GF(2^8), bit by bit."""
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left & 0x100:
            left ^= 0x11D
        right >>= 1
    return product


def parity_columns(
    data: bytes, chunk: int, layout: ParityLayout, parities: int
) -> tuple[bytes, ...]:
    """Lay data out as RAID-4, 5 or 6; the data is a whole number of rows."""
    table = (RAID5 if parities == 1 else RAID6)[layout]
    width = len(table[0]) - parities
    columns = [bytearray() for _ in table[0]]
    for row in range(len(data) // (chunk * width)):
        marks = table[row % len(table)]
        place = {mark: column for column, mark in enumerate(marks)}
        chunks = {
            place[str(index)]: data[(row * width + index) * chunk :][:chunk]
            for index in range(width)
        }
        p, q = bytearray(chunk), bytearray(chunk)
        start = 0 if layout in DDF else place.get("Q", -1) + 1
        factor = 1
        for step in range(len(marks)):
            column = (start + step) % len(marks)
            if column in chunks:
                for index, byte in enumerate(chunks[column]):
                    p[index] ^= byte
                    q[index] ^= multiply(factor, byte)
            if column in chunks or layout in DDF:
                factor = multiply(factor, 2)
        for column, mark in enumerate(marks):
            columns[column] += {"P": p, "Q": q}.get(mark) or chunks[column]
    return tuple(map(bytes, columns))


def stripe_columns(data: bytes, chunk: int, count: int) -> tuple[bytes, ...]:
    """Lay data out as RAID-0."""
    columns = [bytearray() for _ in range(count)]
    for number in range(len(data) // chunk):
        columns[number % count] += data[number * chunk :][:chunk]
    return tuple(map(bytes, columns))


class Unreliable:
    """A device with places that cannot be read."""

    def __init__(self, data: bytes, broken: Sequence[Span], at_hand: bool = True) -> None:
        self._inner = BytesReader(data)
        self._broken = broken
        self._at_hand = at_hand
        self.size = len(data)
        self.read_spans: list[Span] = []

    def try_read(self, offset: int, length: int) -> Buffer | None:
        if not self._at_hand:
            self._inner.try_read(offset, length)
            return None
        for span in self._broken:
            if offset < span.offset + span.length and span.offset < offset + length:
                raise OSError(errno.EIO, "a bad sector", "device")
        return self._inner.try_read(offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        self.read_spans.append(Span(offset, length))
        at_hand, self._at_hand = self._at_hand, True
        try:
            data = self.try_read(offset, length)
        finally:
            self._at_hand = at_hand
        assert data is not None
        return data

    def prefetch(self, spans: Sequence[Span]) -> None:
        pass
