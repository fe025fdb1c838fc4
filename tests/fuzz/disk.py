"""A disk in memory that a few bytes of fuzzer's input damage.

Strategy: an image has megabytes, of which a parser looks at a few thousand bytes; a fuzzer that mutated
the image itself would hardly ever hit them. So the input is a list of damages, and their places are
counted among the bytes that the walk of the undamaged image has read and that are not zero.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vmount.parsers.reader import BytesReader, check_bounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.reader import Span

UNIT = 16
"""Bytes: places are counted in these."""
DAMAGE = struct.Struct("<HBBI")
"""A unit, the place in it, how to damage it, a value."""
MOST_DAMAGES = 64

MOST_READS = 100_000
MOST_BYTES = 512 << 20
"""Of one walk: many times what that of an undamaged image takes."""


class Recorder(BytesReader):
    """An undamaged image that learns where its metadata is."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data
        self._units: set[int] = set()

    def try_read(self, offset: int, length: int) -> memoryview:
        found = memoryview(super().try_read(offset, length))
        self._units.update(range(offset // UNIT, -(-(offset + length) // UNIT)))
        return found

    async def read(self, offset: int, length: int) -> memoryview:
        return self.try_read(offset, length)

    def units(self) -> list[int]:
        """Return the offsets of all units read that are not zero."""
        zero = bytes(UNIT)
        offsets = (unit * UNIT for unit in sorted(self._units))
        return [at for at in offsets if self.data[at : at + UNIT] not in (zero, b"")]


class DamagedDisk:
    """A BlockSource over an image and a list of damages."""

    def __init__(self, data: bytes, units: Sequence[int], damages: bytes) -> None:
        self.size = len(data)
        self._data = data
        self._patches: dict[int, int] = {}
        self._reads = self._bytes = 0
        for unit, place, kind, value in DAMAGE.iter_unpack(
            damages[: min(len(damages) // DAMAGE.size, MOST_DAMAGES) * DAMAGE.size]
        ):
            at = units[unit % len(units)] + place % UNIT
            self._damage(at, kind, value, units)

    def _damage(self, at: int, kind: int, value: int, units: Sequence[int]) -> None:
        match kind % 8:
            case 0 | 1 | 2:
                size = 1 << kind % 8
                self._patch(at, (value % (1 << 8 * size)).to_bytes(size, "little"))
            case 3:
                self._patch(at, value.to_bytes(4, "big"))
            case 4:  # near what is there
                old = int.from_bytes(self._data[at : at + 4], "little")
                delta = value % 64 - 32
                self._patch(at, ((old + delta) % (1 << 32)).to_bytes(4, "little"))
            case 5:  # what is somewhere else
                source = units[value % len(units)]
                size = UNIT << kind // 8 % 4
                self._patch(at, self._data[source : source + size])
            case 6:
                self._patch(at, b"\xff" * (1 << kind // 8 % 6))
            case 7:  # cut short
                self.size = min(self.size, max(at, 512))

    def _patch(self, at: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            self._patches[at + index] = byte

    def image(self) -> bytes:
        """Return all of the damaged disk."""
        changed = bytearray(self._data)
        for at, byte in self._patches.items():
            changed[at : at + 1] = bytes([byte])
        return bytes(changed[: self.size])

    def try_read(self, offset: int, length: int) -> bytes:
        check_bounds(offset, length, self.size)
        self._reads += 1
        self._bytes += length
        assert self._reads <= MOST_READS, "too many reads"
        assert self._bytes <= MOST_BYTES, "too many bytes read"
        found = self._data[offset : offset + length]
        touched = [at for at in self._patches if offset <= at < offset + length]
        if touched:
            changed = bytearray(found)
            for at in touched:
                changed[at - offset] = self._patches[at]
            return bytes(changed)
        return found

    async def read(self, offset: int, length: int) -> bytes:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        for offset, length in spans:
            assert offset >= 0
            assert length >= 0
