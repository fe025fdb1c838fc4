"""XPRESS and LZX chunks, compared with wimlib's codecs."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.libwim import LZX, XPRESS, Codec
from fixtures.ntfs import text
from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.ntfs.lzx import WINDOW, decode_lzx
from vmount.parsers.ntfs.xpress import decode_xpress
from vmount.parsers.reader import Buffer

Decode = Callable[[Buffer, int], bytes]

CODECS: tuple[tuple[str, int, int, int, Decode], ...] = (
    ("XPRESS4K", XPRESS, 4096, 0, decode_xpress),
    ("XPRESS8K", XPRESS, 8192, 20, decode_xpress),
    ("XPRESS16K", XPRESS, 16384, 100, decode_xpress),
    ("LZX", LZX, WINDOW, 0, decode_lzx),
    ("LZX fast", LZX, WINDOW, 20, decode_lzx),
    ("LZX slow", LZX, WINDOW, 100, decode_lzx),
)

PROGRAM = Path("/bin/bash").read_bytes()


@pytest.fixture(params=CODECS, ids=lambda codec: codec[0])
def codec(request: pytest.FixtureRequest) -> tuple[Codec, int, Decode]:
    _, kind, unit, level, decode = request.param
    return Codec(kind, unit, level), unit, decode


def sample(rng: random.Random, size: int) -> bytes:
    """Return bytes of a random kind."""
    values = rng.sample(range(256), rng.choice((1, 2, 3, 5, 20, 100, 256)))
    match rng.randrange(5):
        case 0:
            return bytes(rng.choices(values, k=size))
        case 1:
            pieces = (bytes([rng.choice(values)]) * rng.randrange(1, 30) for _ in range(size))
        case 2:
            pieces = (
                bytes([rng.choice(values)]) * int(rng.expovariate(1 / 300) + 1) for _ in range(size)
            )
        case 3:
            return bytes(rng.choices((0xE8, 0, 0, 1, 0xFF, 2), k=size))
        case _:
            start = rng.randrange(len(PROGRAM) - size)
            return PROGRAM[start : start + size]
    return b"".join(pieces)[:size]


def test_what_wimlib_compressed(codec: tuple[Codec, int, Decode]) -> None:
    wimlib, unit, decode = codec
    rng = random.Random(unit)
    seen = 0
    for _ in range(120):
        size = rng.choice((rng.randrange(1, 700), rng.randrange(1, unit), unit))
        data = sample(rng, size)
        stored = wimlib.compress(data)
        if stored is not None:
            assert decode(stored, size) == data
            seen += 1
    assert seen > 60


def test_every_small_size(codec: tuple[Codec, int, Decode]) -> None:
    wimlib, unit, decode = codec
    sizes = [*range(1, 40), *range(290, 310), *range(unit - 12, unit + 1)]
    for size in sizes:
        data = bytes(size)
        stored = wimlib.compress(data)
        if stored is not None:
            assert decode(stored, size) == data
            for other in (size - 1, size + 1):
                if other > unit:
                    continue
                # LZX has the sizes of its blocks; XPRESS does not know where it ends.
                if decode is decode_lzx:
                    with pytest.raises(Corrupt):
                        decode(stored, other)


def test_nothing_that_wimlib_would_not_say(codec: tuple[Codec, int, Decode]) -> None:
    """Of damaged chunks either nothing is read, or what wimlib reads."""
    wimlib, unit, decode = codec
    rng = random.Random(unit + 1)
    same = refused = 0
    while same + refused < 250:
        data = sample(rng, rng.choice((500, 3000, unit)))
        stored = wimlib.compress(data)
        if stored is None:
            continue
        changed = bytearray(stored)
        for _ in range(rng.choice((0, 1, 1, 2, 10))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del changed[rng.randrange(len(changed)) :]
        try:
            ours = decode(changed, len(data))
        except ParseError:
            refused += 1
        else:
            assert wimlib.decompress(bytes(changed), len(data)) == ours
            same += 1
    assert same > 20
    assert refused > 50


def lzx_stored(data: bytes, recent: tuple[int, int, int] = (1, 1, 1)) -> bytes:
    """Return an LZX block that holds bytes as they are; it begins at a word (MS-PATCH 2.3.2.1)."""
    bits = 3 << 29 | len(data) << 12
    head = struct.pack("<HH", bits >> 16, bits & 0xFFFF)
    return head + struct.pack("<3I", *recent) + data + bytes(len(data) & 1)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11, 100, 101, 15_000])
def test_stored_blocks_of_lzx(size: int) -> None:
    wimlib = Codec(LZX, WINDOW)
    data = PROGRAM[5000 : 5000 + size]
    chunk = lzx_stored(data)
    expected = wimlib.decompress(chunk, size)
    assert expected is not None
    assert decode_lzx(chunk, size) == expected
    two = chunk + lzx_stored(data[::-1])
    assert decode_lzx(two, 2 * size) == wimlib.decompress(two, 2 * size)
    # A block that is not stored goes on behind one that is, with the distances that that one gave.
    more = text(size, 5000)
    for recent in ((1, 1, 1), (size, 1, 1)):
        mixed = lzx_stored(data, recent) + (wimlib.compress(more) or b"")
        expected = wimlib.decompress(mixed, size + len(more))
        assert expected is not None
        assert decode_lzx(mixed, size + len(more)) == expected
    for end in (0, 3, 15, 15 + size):
        with pytest.raises(Corrupt):
            decode_lzx(chunk[:end], size)


def test_more_blocks_than_make_sense() -> None:
    """Each can have tables to be made; 32,000 of them would take seconds."""
    assert decode_lzx(lzx_stored(b"x") * 256, 256) == b"x" * 256
    with pytest.raises(Corrupt, match="number of LZX blocks"):
        decode_lzx(lzx_stored(b"x") * 257, 257)


@pytest.mark.parametrize("recent", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_distances_of_zero(recent: tuple[int, int, int]) -> None:
    with pytest.raises(Corrupt, match="distances"):
        decode_lzx(lzx_stored(b"data", recent), 4)


@pytest.mark.parametrize("kind", [0, 4, 5, 6, 7])
def test_blocks_of_no_type(kind: int) -> None:
    with pytest.raises(Corrupt, match="type of an LZX block"):
        decode_lzx(struct.pack("<HH", kind << 13 | 1 << 12, 0), WINDOW)


@pytest.mark.parametrize("decode", [decode_lzx, decode_xpress])
def test_chunks_larger_than_there_are(decode: Decode) -> None:
    with pytest.raises(Corrupt, match="size of an"):
        decode(bytes(1000), (1 << 16) + 1)
