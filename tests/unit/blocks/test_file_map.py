"""A FileMap gives the bytes that its FileData describes, for every range."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.blocks.file_map import FileMap, SourceFile, open_file
from vmount.parsers.errors import Corrupt
from vmount.parsers.model import Chunk, FileData, Inline, Packed, Run, Runs
from vmount.parsers.reader import Buffer, BytesReader, Span, run_sync
from vmount.parsers.runs import RunList

VOLUME = random.Random(3).randbytes(1 << 16)


@st.composite
def files_in_runs(draw: st.DrawFn) -> tuple[FileData, bytes]:
    runs: list[Run] = []
    content = b""
    for _ in range(draw(st.integers(1, 12))):
        length = draw(st.integers(1, 3000))
        start = draw(st.none() | st.integers(0, len(VOLUME) - length))
        runs.append(Run(len(content), length, start))
        content += bytes(length) if start is None else VOLUME[start : start + length]
    valid = draw(st.integers(0, len(content)))
    size = valid + draw(st.integers(0, 5000))
    expected = content[:valid] + bytes(size - valid)
    return FileData(size, valid, Runs(RunList.of(runs))), expected


def check(content: FileMap, expected: bytes, offset: int, length: int) -> None:
    wanted = expected[offset : offset + length]
    at_once = content.try_read(offset, length)
    assert at_once is None or bytes(at_once) == wanted
    assert bytes(run_sync(content.read(offset, length))) == wanted


@given(files_in_runs(), st.data())
def test_runs(file: tuple[FileData, bytes], data: st.DataObject) -> None:
    described, expected = file
    content = open_file(BytesReader(VOLUME), described)
    assert content.size == len(expected)
    for _ in range(5):
        offset = data.draw(st.integers(0, len(expected) + 100))
        check(content, expected, offset, data.draw(st.integers(0, 8000)))
    outside = bytearray(expected)
    for span in content.spans():
        outside[span.offset : span.offset + span.length] = bytes(span.length)
    assert not any(outside), "a span that holds something was left out"


class Reversed:
    """Chunks stored backwards at every 1000 bytes, the third a hole, the fourth as it is."""

    unit = 700
    cost = 0

    async def chunk(self, index: int) -> Chunk:
        if index == 2:
            return Chunk((Run(0, 700, None),), None)
        if index == 3:
            return Chunk((Run(0, 700, 3000),), None)
        return Chunk((Run(0, 300, index * 1000), Run(300, 400, index * 1000 + 500)), self._decode)

    def where(self, offset: int, length: int) -> list[Span]:
        return [Span(offset // 700 * 1000, length)] if length else []

    @staticmethod
    def _decode(stored: Buffer, length: int) -> bytes:
        return bytes(stored)[::-1][:length]


def reversed_content(size: int) -> bytes:
    content = b""
    for index in range(-(-size // 700)):
        at = index * 1000
        stored = VOLUME[at : at + 300] + VOLUME[at + 500 : at + 900]
        content += {2: bytes(700), 3: VOLUME[3000:3700]}.get(index, stored[::-1])
    return content[:size]


@given(st.integers(1, 9000), st.integers(0, 9000), st.integers(0, 9000), st.integers(0, 9000))
def test_packed(size: int, valid: int, offset: int, length: int) -> None:
    valid = min(valid, size)
    content = open_file(BytesReader(VOLUME), FileData(size, valid, Packed(Reversed())))
    expected = reversed_content(size)[:valid] + bytes(size - valid)
    check(content, expected, offset, length)
    check(content, expected, offset, length)


def test_a_chunk_that_decodes_to_another_length_is_refused() -> None:
    class Short:
        unit = 700
        cost = 0

        async def chunk(self, index: int) -> Chunk:
            return Chunk((Run(0, 10, 0),), None)

        def where(self, offset: int, length: int) -> list[Span]:
            return []

    content = open_file(BytesReader(VOLUME), FileData(1400, 1400, Packed(Short())))
    with pytest.raises(Corrupt, match="wrong length"):
        run_sync(content.read(0, 10))


def test_inline_and_whole_sources() -> None:
    check(open_file(BytesReader(VOLUME), FileData(5, 3, Inline(b"abcde"))), b"abc\0\0", 1, 10)
    check(SourceFile(BytesReader(VOLUME)), VOLUME, len(VOLUME) - 5, 100)
    with pytest.raises(Corrupt, match="inline"):
        open_file(BytesReader(VOLUME), FileData(5, 5, Inline(b"abc")))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ((Run(0, 100, 0),), "the runs end before the end of the file"),
        ((Run(0, 100, 0), Run(200, 100, 0)), "out of order"),
        ((Run(0, 0, 0),), "out of order"),
        ((Run(0, 200, len(VOLUME) - 100),), "beyond the end of the volume at 0xff9c"),
        ((Run(0, 200, -1),), "beyond the limit"),
        ((Run(0, 1 << 63, None),), "beyond the limit"),
    ],
)
def test_runs_that_cannot_be_are_refused(runs: tuple[Run, ...], message: str) -> None:
    with pytest.raises(Corrupt, match=message):
        open_file(BytesReader(VOLUME), FileData(200, 200, Runs(RunList.of(runs))))
