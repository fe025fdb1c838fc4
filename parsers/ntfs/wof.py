"""WOF: files that Windows compressed as a whole (CompactOS, `compact /exe`).

The unnamed $DATA of such a file is a hole of the file's size; its bytes are in the stream
WofCompressedData, cut into chunks that decode to the same size each. The stream begins with a table of
offsets, from the table's end, of all chunks but the first. A chunk that would not have become smaller is
stored as it is. WIM files have the same layout. Source: the reparse point is in MS-FSCC 2.1.2 and
wofapi.h, the layout in the format that wimlib documents for WIM.

Strategy: the table of a large file has megabytes, so it is read a page at a time, and a few pages are
kept. A chunk's place and size are checked when it is asked for: damage costs that chunk.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.lru import Lru
from vmount.parsers.model import Chunk, FileData, Inline, Packed, Run, Runs
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.lzx import decode_lzx
from vmount.parsers.ntfs.xpress import decode_xpress
from vmount.parsers.reader import Buffer
from vmount.parsers.runs import NO_RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmount.parsers.reader import Reader, Span

STREAM = "WofCompressedData".encode("utf-16-le")

WOF_POINT = Layout(
    "WOF reparse point",
    Field("version", "I", at=0x00, note="WOF_CURRENT_VERSION: 1"),
    Field("provider", "I", at=0x04, note="WOF_PROVIDER_...: 2: files"),
    Field("provider_version", "I", at=0x08, note="FILE_PROVIDER_CURRENT_VERSION: 1"),
    Field(
        "algorithm",
        "I",
        at=0x0C,
        note="FILE_PROVIDER_COMPRESSION_...; flags follow and are not read",
    ),
    size=16,
    source="Windows SDK ntifs.h, WOF_EXTERNAL_INFO and FILE_PROVIDER_EXTERNAL_INFO_V1",
)

PROVIDERS = {1: "WIM image", 2: "file"}
_FILE_PROVIDER = 2

XPRESS4K, LZX, XPRESS8K, XPRESS16K = range(4)

ALGORITHMS = {XPRESS4K: "XPRESS4K", LZX: "LZX", XPRESS8K: "XPRESS8K", XPRESS16K: "XPRESS16K"}

UNITS = {XPRESS4K: 4096, LZX: 32768, XPRESS8K: 8192, XPRESS16K: 16384}

LARGE_FILE = 1 << 32
"""Bytes from which on the table has entries of eight bytes instead of four."""

_PAGE = 4096
_PAGES_KEPT = 8
"""A page has the offsets of 2 to 32 MiB of the file."""


def wof_algorithm(data: bytes) -> int:
    """Return which algorithm the data of a WOF reparse point names.

    Raises Unsupported for files backed by a WIM image and for what is not known here, Corrupt.
    """
    if len(data) >= 8 and (kind := int.from_bytes(data[4:8], "little")) != _FILE_PROVIDER:
        name = PROVIDERS.get(kind, f"provider {kind:#x}")
        raise Unsupported(f"file content behind a reparse point: WOF, backed by a {name}")
    point = WOF_POINT.parse(data)
    if (point.version, point.provider_version) != (1, 1):
        raise Unsupported(f"WOF reparse point of version {point.version}.{point.provider_version}")
    if point.algorithm not in ALGORITHMS:
        raise Unsupported(f"WOF compression algorithm {point.algorithm:#x}")
    algorithm: int = point.algorithm
    return algorithm


def wof_data(reader: Reader, size: int, stored: FileData, algorithm: int) -> FileData:
    """Return where the bytes of a file of `size` bytes are, given its stream WofCompressedData.

    Raises Unsupported if the stream itself is compressed, Corrupt.
    """
    if size == 0:
        return FileData(0, 0, Inline(b""))
    return FileData(size, size, Packed(WofChunks(reader, size, stored, algorithm)))


class WofChunks:
    """The chunks of a file compressed with WOF (a `ChunkTable`)."""

    def __init__(self, reader: Reader, size: int, stored: FileData, algorithm: int) -> None:
        """Take the size of the file in bytes and its stream. Raises Unsupported, Corrupt."""
        self.unit = UNITS[algorithm]
        self._decode = decode_lzx if algorithm == LZX else decode_xpress
        self._reader = reader
        self._size = size
        self._count = -(-size // self.unit)
        self._entry = 8 if size >= LARGE_FILE else 4
        self._table = (self._count - 1) * self._entry
        self._stored = stored.size
        if not self._table < self._stored or self._table > stored.valid:
            raise Corrupt(
                Damage.SIZE_OF_WOFCOMPRESSEDDATA,
                expected=f"over {self._table:#x}",
                actual=stored.valid,
            )
        self._end = stored.valid - self._table
        self._content: bytes | None = None
        self._map = NO_RUNS
        match stored.layout:
            case Inline(content):
                self._content = content
            case Runs(runs):
                self._map = runs
            case Packed():
                raise Unsupported("WofCompressedData that is compressed itself")
        self.cost = self._map.cost + len(self._content or b"") + _PAGES_KEPT * _PAGE
        self._pages: Lru[int, Buffer] = Lru(_PAGES_KEPT)

    async def chunk(self, index: int) -> Chunk:
        """Return a chunk. Raises Corrupt where it cannot be."""
        if not 0 <= index < self._count:
            raise ValueError(f"no chunk {index} in {self._size} bytes")
        length = min(self.unit, self._size - index * self.unit)
        start = await self._offset(index)
        end = await self._offset(index + 1)
        if not 0 < end - start <= length or end > self._end:
            raise Corrupt(
                Damage.OFFSET_OF_CHUNK_IN_WOFCOMPRESSEDDATA,
                of=f"{index:#x}",
                expected=f"up to {length} of {self._end:#x} bytes",
                actual=f"{start:#x} to {end:#x}",
            )
        start += self._table
        end += self._table
        plain = end - start == length
        if self._content is not None:
            return Chunk(
                (), partial(_held, self._content[start:end], None if plain else self._decode)
            )
        runs = []
        for offset, size, place in self._map.pieces(start, end - start):
            if place is None:
                raise Corrupt(Damage.CHUNK_OF_WOFCOMPRESSEDDATA_IS_HOLE, of=f"{index:#x}")
            runs.append(Run(offset - start, size, place))
        return Chunk(tuple(runs), None if plain else self._decode)

    def where(self, offset: int, length: int) -> Sequence[Span]:
        """Return where a range of the file is stored, as far as that is known without reading.

        Offsets that are not at hand are guessed from the mean size of a chunk: it is a hint.
        """
        end = min(offset + length, self._size)
        if not 0 <= offset < end or self._content is not None:
            return []
        first, after = offset // self.unit, -(-end // self.unit)
        start, end = self._guess(first), self._guess(after)
        spans = []
        if start < end <= self._end:
            spans = self._map.spans(self._table + start, end - start)
        if self._entry * first // _PAGE not in self._pages and self._table:
            at = self._entry * first // _PAGE * _PAGE
            stop = min(self._table, self._entry * after)
            spans = [*self._map.spans(at, max(0, stop - at)), *spans]
        return spans

    def _guess(self, index: int) -> int:
        if index in (0, self._count):
            return (self._stored - self._table) * (index > 0)
        number, at = divmod((index - 1) * self._entry, _PAGE)
        if page := self._pages.peek(number):
            return int.from_bytes(page[at : at + self._entry], "little")
        return (self._stored - self._table) * index // self._count

    async def _offset(self, index: int) -> int:
        """Return where a chunk begins, from the end of the table; for the one after the last its end."""
        if index == 0:
            return 0
        if index == self._count:
            return self._stored - self._table
        number, at = divmod((index - 1) * self._entry, _PAGE)
        page = self._pages.get(number)
        if page is None:
            page = await self._page(number)
        return int.from_bytes(page[at : at + self._entry], "little")

    async def _page(self, number: int) -> Buffer:
        start = number * _PAGE
        length = min(_PAGE, self._table - start)
        page: Buffer
        if self._content is not None:
            page = self._content[start : start + length]
        else:
            page = await self._map.read(self._reader, start, length)
        self._pages.put(number, page)
        return page


def _held(
    content: bytes, decode: Callable[[Buffer, int], bytes] | None, _stored: Buffer, length: int
) -> bytes:
    """Decode what is in the MFT record, and so not in any run."""
    return content if decode is None else decode(content, length)
