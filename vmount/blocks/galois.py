"""Sums over whole buffers in GF(2^8), as RAID-6 does them.

The field is that of H. P. Anvin, "The mathematics of RAID-6": polynomial x^8 + x^4 + x^3 + x^2 + 1,
generator 2. A product with a constant is one `bytes.translate`, a sum one XOR of large integers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmount.parsers.reader import Buffer

POLYNOMIAL = 0x11D
ORDER = 255
"""Of the generator."""


def _powers() -> list[int]:
    powers, value = [], 1
    for _ in range(ORDER):
        powers.append(value)
        value <<= 1
        if value & 0x100:
            value ^= POLYNOMIAL
    return powers


_EXP = _powers()
_LOG = {value: exponent for exponent, value in enumerate(_EXP)}


def power(exponent: int) -> int:
    """Return the generator to that power; a negative one is meant."""
    return _EXP[exponent % ORDER]


def inverse(value: int) -> int:
    """Return 1 / value. Raises KeyError for 0."""
    return _EXP[-_LOG[value] % ORDER]


@lru_cache(maxsize=256)
def _table(factor: int) -> bytes:
    logarithm = _LOG[factor]
    return bytes([0] + [_EXP[(logarithm + _LOG[value]) % ORDER] for value in range(1, 256)])


def times(factor: int, data: Buffer) -> bytes:
    """Return every byte multiplied by a factor that is not 0."""
    return bytes(data) if factor == 1 else bytes(data).translate(_table(factor))


def add(buffers: Iterable[Buffer], length: int) -> bytes:
    """Return the XOR of buffers of one length."""
    total = 0
    for buffer in buffers:
        total ^= int.from_bytes(buffer, "little")
    return total.to_bytes(length, "little")
