"""Hashes of names, by which large directories are ordered.

Sources: Linux kernel documentation, filesystems/ext4, "Hash Tree Directories"; RFC 1320 (MD4); Wheeler and
Needham, "TEA, a Tiny Encryption Algorithm".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

_MASK = 0xFFFFFFFF
_DEFAULT_SEED = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_LAST_HASH = 0xFFFFFFFE
"""Reserved as the end of a directory; names that come to it get the one before."""


class HashVersion(IntEnum):
    """How a directory's names are hashed; the unsigned forms take bytes as unsigned."""

    LEGACY = 0
    HALF_MD4 = 1
    TEA = 2
    LEGACY_UNSIGNED = 3
    HALF_MD4_UNSIGNED = 4
    TEA_UNSIGNED = 5
    SIPHASH = 6


class NameHash(NamedTuple):
    """The hashes of a name."""

    major: int
    """Orders a directory; even."""
    minor: int
    """Orders names of the same major hash in a listing of the kernel's."""


def name_hash(version: HashVersion, name: bytes, seed: bytes) -> NameHash | None:
    """Return the hashes of a name; None for SIPHASH, which needs a key.

    `seed` is the superblock's, 16 bytes; all zeros stands for MD4's initial state.
    """
    if version == HashVersion.SIPHASH:
        return None
    unsigned = version >= HashVersion.LEGACY_UNSIGNED
    kind = version - 3 if unsigned else version
    if kind == HashVersion.LEGACY:
        value, minor = _legacy(name, unsigned), 0
    else:
        state = struct.unpack("<4I", seed) if any(seed) else _DEFAULT_SEED
        hashed = (_half_md4 if kind == HashVersion.HALF_MD4 else _tea)(name, state, unsigned)
        value, minor = hashed
    value &= ~1
    return NameHash(_LAST_HASH - 2 if value == _LAST_HASH else value, minor)


def _legacy(name: bytes, unsigned: bool) -> int:
    current, previous = 0x12A3FE2D, 0x37ABE8F9
    for byte in name:
        value = byte if unsigned or byte < 0x80 else byte - 0x100
        following = previous + (current ^ (value * 7152373 & _MASK)) & _MASK
        if following & 0x80000000:
            following -= 0x7FFFFFFF
        previous, current = current, following & _MASK
    return current << 1 & _MASK


def _words(piece: bytes, remaining: int, count: int, unsigned: bool) -> list[int]:
    """Pack up to `count` words of four bytes, most significant first; the rest is filled with the length
    of what remains of the name, in each byte."""
    filler = (remaining & 0xFF) * 0x01010101
    words = []
    for position in range(0, min(len(piece), 4 * count), 4):
        word = filler
        for byte in piece[position : position + 4]:
            value = byte if unsigned or byte < 0x80 else byte - 0x100
            word = value + (word << 8) & _MASK
        words.append(word)
    return words + [filler] * (count - len(words))


def _tea(name: bytes, state: tuple[int, ...], unsigned: bool) -> tuple[int, int]:
    first, second = state[0], state[1]
    for position in range(0, len(name), 16):
        key = _words(name[position : position + 16], len(name) - position, 4, unsigned)
        total = 0
        left, right = first, second
        for _ in range(16):
            total = total + 0x9E3779B9 & _MASK
            left = (
                left + (((right << 4) + key[0]) ^ (right + total) ^ ((right >> 5) + key[1])) & _MASK
            )
            right = (
                right + (((left << 4) + key[2]) ^ (left + total) ^ ((left >> 5) + key[3])) & _MASK
            )
        first, second = first + left & _MASK, second + right & _MASK
    return first, second


_Mix = Callable[[int, int, int], int]


def _choose(x: int, y: int, z: int) -> int:
    return z ^ (x & (y ^ z))


def _majority(x: int, y: int, z: int) -> int:
    return (x & y) | (x & z) | (y & z)


def _parity(x: int, y: int, z: int) -> int:
    return x ^ y ^ z


_ROUNDS: tuple[tuple[_Mix, int, tuple[int, ...], tuple[int, ...]], ...] = (
    (_choose, 0, (0, 1, 2, 3, 4, 5, 6, 7), (3, 7, 11, 19)),
    (_majority, 0x5A827999, (1, 3, 5, 7, 0, 2, 4, 6), (3, 5, 9, 13)),
    (_parity, 0x6ED9EBA1, (3, 7, 2, 6, 1, 5, 0, 4), (3, 9, 11, 15)),
)
"""MD4's three rounds, each with half of its steps: function, constant, order of words, shifts."""


def _half_md4(name: bytes, state: tuple[int, ...], unsigned: bool) -> tuple[int, int]:
    total = list(state)
    for position in range(0, len(name), 32):
        words = _words(name[position : position + 32], len(name) - position, 8, unsigned)
        a, b, c, d = total
        for mix, constant, order, shifts in _ROUNDS:
            for step, index in enumerate(order):
                value = a + mix(b, c, d) + words[index] + constant & _MASK
                shift = shifts[step & 3]
                rotated = (value << shift | value >> (32 - shift)) & _MASK
                a, b, c, d = d, rotated, b, c
        total = [old + new & _MASK for old, new in zip(total, (a, b, c, d), strict=True)]
    return total[1], total[2]
