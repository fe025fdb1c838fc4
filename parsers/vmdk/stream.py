"""Compressed extents (streamOptimized): the form of disks in OVF packages.

Source: VMware, "Virtual Disk Format 5.0", section "Stream-Optimized Compressed Sparse Extents". Grains are
zlib streams, each behind a marker with the sector that it belongs at and its length, which are both checked.
A stream is written front to back, so a footer at its end points to the grain directory.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.lru import Lru
from vmount.parsers.reader import Buffer, Span, check_bounds
from vmount.parsers.vmdk.descriptor import SECTOR
from vmount.parsers.vmdk.pieces import MAX_READ, DiskPiece, append
from vmount.parsers.vmdk.sparse import AT_END, SparseExtent, SparseHeader, parse_header
from vmount.parsers.vmdk.tablefile import TableFile

GRAIN_CACHE = 64 << 20
"""Bytes of decoded grains kept for a disk."""

GRAIN_MARKER = Layout(
    "GrainMarker",
    Field("lba", "Q", at=0x00, note="sector of the grain in the disk"),
    Field("length", "I", at=0x08, note="size: bytes of the deflated grain, which follows"),
    size=12,
    source="VMware Virtual Disk Format 5.0 technote, Stream-Optimized (GrainMarker)",
)

MARKER = Layout(
    "Marker",
    Field("sectors", "Q", at=0x00, note="val: of what follows"),
    Field("length", "I", at=0x08, note="size: 0"),
    Field("kind", "I", at=0x0C, note="type: 0 end, 1 grain table, 2 directory, 3 footer"),
    Field("padding", "496x", at=0x10),
    size=512,
    source="VMware Virtual Disk Format 5.0 technote, Stream-Optimized (Marker)",
)

FOOTER_KIND = 3
"""Marker.kind of what comes before the footer; 0 ends the stream."""

GrainCache = Lru[tuple[int, int], memoryview]
"""Decoded grains by the identity of their extent and number."""

_GRAIN_MARKER = GRAIN_MARKER.picker("lba", "length")


def max_stored(grain: int) -> int:
    """Return the most bytes that a compressed grain may take, its marker included.

    DEFLATE lengthens what it cannot compress by less than a thousandth; the double leaves room for
    any encoder.
    """
    return 2 * grain + SECTOR


async def read_footer(file: TableFile) -> SparseHeader:
    """Read the header that counts for an extent whose first header has AT_END.

    Raises Corrupt if the last three sectors are not footer marker, footer and end of stream: the
    stream is cut off.
    """
    start = file.size // SECTOR * SECTOR - 3 * SECTOR
    if start < SECTOR:
        raise Corrupt("stream without its footer: cut off", actual=f"{file.size} bytes")
    raw = await file.read(start, 3 * SECTOR)
    marker, end = MARKER.parse(raw), MARKER.parse(raw, 2 * SECTOR)
    if (marker.sectors, marker.length, marker.kind) != (1, 0, FOOTER_KIND) or (
        end.sectors,
        end.length,
        end.kind,
    ) != (0, 0, 0):
        raise Corrupt("stream without its footer: cut off or damaged", start)
    footer = parse_header(raw, SECTOR)
    if footer.directory == AT_END:
        raise Corrupt("footer without a grain directory", start + SECTOR)
    return footer


def decode_grain(raw: Buffer, lba: int, length: int, grain: int) -> bytes:
    """Decompress a grain from its marker and what follows.

    `lba` is the sector of the extent that it must be for, `grain` its full size in bytes, `length` the
    bytes that must come out at least: less than `grain` only for the last grain of an extent.
    Raises Corrupt.
    """
    found_lba, stored = _GRAIN_MARKER.unpack_from(raw)
    if found_lba != lba:
        raise Corrupt(
            "compressed grain with another sector number",
            expected=f"sector {lba}",
            actual=found_lba,
        )
    stream = raw[GRAIN_MARKER.size : GRAIN_MARKER.size + stored]
    decoder = zlib.decompressobj()
    try:
        data = decoder.decompress(stream, grain + 1)
    except zlib.error as error:
        raise Corrupt(f"compressed grain for sector {lba}: {error}") from None
    if not decoder.eof or not length <= len(data) <= grain:
        raise Corrupt(
            f"length of the compressed grain for sector {lba}",
            expected=f"{length} to {grain} bytes",
            actual=f"{len(data)}{'' if decoder.eof else ' or more'}",
        )
    return data


class StreamExtent(SparseExtent):
    """An extent of compressed grains."""

    def __init__(
        self,
        file: TableFile,
        header: SparseHeader,
        sectors: int,
        warn: Callable[[str], None],
        cache: GrainCache,
    ) -> None:
        """`header` is the footer if there is one. Raises as SparseExtent does."""
        super().__init__(file, header, sectors, warn)
        self._cache = cache

    def _allocated(self, found: list[DiskPiece], position: int, starts: list[int]) -> None:
        grain, limit = self._geometry.grain, max_stored(self._geometry.grain)
        for number, start in enumerate(starts):
            at = position + number * grain
            if self._is_misplaced(start, at):
                append(found, DiskPiece(at, at + grain, self._misplaced(start, at), 0))
                continue
            # Grains are mostly written in their order, so the next one tells where this one ends.
            stored = starts[number + 1] - start if number + 1 < len(starts) else 0
            if not GRAIN_MARKER.size < stored <= limit:
                stored = grain
            stored = min(stored, self._file.size - start)
            append(found, DiskPiece(at, at + grain, CompressedGrain(self, at, start, stored), -at))

    def _is_misplaced(self, start: int, at: int) -> bool:  # noqa: ARG002
        return start < self._geometry.first_data or start + GRAIN_MARKER.size > self._file.size

    def cached(self, at: int) -> memoryview | None:
        """Return the grain for an offset of the extent if it is decoded."""
        return self._cache.get((id(self), at))

    async def decode(self, grain: CompressedGrain, raw: Buffer | None = None) -> memoryview:
        """Return a grain decoded, from `raw` if that holds all of it, else reading what is missing.

        Raises Corrupt, naming the file, if it is damaged.
        """
        size, where = self._geometry.grain, grain.where
        if raw is None:
            raw = await self._file.source.read(where, grain.stored)
        stored = GRAIN_MARKER.size + _GRAIN_MARKER.unpack_from(raw)[1]
        try:
            if stored > max_stored(size) or where + stored > self._file.size:
                raise Corrupt(
                    "length of a compressed grain",
                    where,
                    expected=f"at most {max_stored(size)}",
                    actual=stored,
                )
            if stored > len(raw):
                rest = await self._file.source.read(where + len(raw), stored - len(raw))
                raw = bytes(raw) + bytes(rest)
            needed = min(size, self.size - grain.at)
            data = decode_grain(raw, grain.at // SECTOR, needed, size)
        except Corrupt as error:
            raise error.named(f"{self._file.name} at {where:#x}") from None
        decoded = memoryview(data)
        self._cache.put((id(self), grain.at), decoded)
        return decoded

    def hint_grains(self, spans: Sequence[Span]) -> None:
        """Prefetch compressed bytes."""
        self._file.source.prefetch(spans)

    async def load(self, grains: Sequence[CompressedGrain]) -> list[memoryview]:
        """Return grains decoded, reading those that lie close together in the file at once."""
        found: dict[int, memoryview] = {}
        missing = []
        for grain in sorted(grains, key=lambda grain: grain.where):
            decoded = self.cached(grain.at)
            if decoded is None:
                missing.append(grain)
            else:
                found[grain.at] = decoded
        batches: list[list[CompressedGrain]] = []
        for grain in missing:
            if batches and (
                grain.where <= batches[-1][-1].where + batches[-1][-1].stored
                and grain.where + grain.stored - batches[-1][0].where <= MAX_READ
            ):
                batches[-1].append(grain)
            else:
                batches.append([grain])
        spans = [_span(batch) for batch in batches]
        if len(spans) > 1:
            self._file.source.prefetch(spans)
        for span, batch in zip(spans, batches, strict=True):
            raw = memoryview(await self._file.source.read(span.offset, span.length))
            for grain in batch:
                start = grain.where - span.offset
                found[grain.at] = await self.decode(grain, raw[start : start + grain.stored])
        return [found[grain.at] for grain in grains]


class CompressedGrain:
    """One compressed grain as a source of its decoded bytes."""

    __slots__ = ("at", "extent", "stored", "where")

    size = 1 << 63

    def __init__(self, extent: StreamExtent, at: int, where: int, stored: int) -> None:
        self.extent = extent
        self.at = at
        """Offset in the extent."""
        self.where = where
        """Offset of its marker in the file."""
        self.stored = stored
        """Bytes to read for it at first: a guess, within the file."""

    def try_read(self, offset: int, length: int) -> Buffer | None:
        """Return decoded bytes if the grain is in the cache."""
        decoded = self.extent.cached(self.at)
        return None if decoded is None else _cut(decoded, offset, length)

    async def read(self, offset: int, length: int) -> Buffer:
        """Return decoded bytes. Raises Corrupt if the grain is damaged."""
        decoded = self.extent.cached(self.at)
        if decoded is None:
            decoded = await self.extent.decode(self)
        return _cut(decoded, offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Prefetch the compressed bytes, if the grain is not decoded."""
        if spans and self.extent.cached(self.at) is None:
            self.extent.hint_grains([Span(self.where, self.stored)])


def _cut(decoded: memoryview, offset: int, length: int) -> memoryview:
    check_bounds(offset, length, len(decoded))
    return decoded[offset : offset + length]


def _span(batch: list[CompressedGrain]) -> Span:
    start = batch[0].where
    return Span(start, max(grain.where + grain.stored for grain in batch) - start)
