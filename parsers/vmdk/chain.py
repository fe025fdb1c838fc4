"""A disk's chain of snapshots: each link's descriptor and extents, from the youngest down to the base.

Source: VMware, "Virtual Disk Format 5.0", sections "The Descriptor File" and "Delta Links".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.reader import Buffer
from vmount.parsers.vmdk import cowd, sesparse, sparse
from vmount.parsers.vmdk.descriptor import (
    MAX_DESCRIPTOR,
    SECTOR,
    Access,
    Descriptor,
    ExtentLine,
    is_descriptor,
    parse_descriptor,
)
from vmount.parsers.vmdk.flat import SolidExtent, flat_extent
from vmount.parsers.vmdk.opener import FileOpener, OpenedFile
from vmount.parsers.vmdk.pieces import ZEROS, DiskExtent, DiskPiece, Refused
from vmount.parsers.vmdk.stream import GrainCache, StreamExtent, read_footer
from vmount.parsers.vmdk.tablefile import PAGE, TableCache, TableFile

MAX_LINKS = 256
"""Links of a chain: vSphere allows 255 snapshots' deltas over a base."""
MAX_EXTENTS_OF_CHAIN = 1 << 20
"""In all links: some 500 bytes each are kept. 2 TiB in extents of 2 GiB with 255 deltas have a quarter."""

_DEVICE_KINDS = ("VMFSRDM", "VMFSRAW")
_FLAT_KINDS = ("FLAT", "VMFS")
_SPARSE_KINDS = ("SPARSE", "VMFSSPARSE")


@dataclass(frozen=True)
class Link:
    """A disk file of a chain, and the extents that hold what was written to it."""

    name: str
    """The full name of the file that holds its descriptor."""
    descriptor: Descriptor
    files: tuple[str, ...]
    """Full names of the files that its extents are in."""
    extents: tuple[DiskExtent, ...] = field(repr=False)
    ends: tuple[int, ...] = field(repr=False)
    """Where each extent ends on the disk, in bytes."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.ends[-1]

    async def pieces(self, start: int, end: int) -> list[DiskPiece]:
        """Resolve a range into pieces that cover it in order; past the end of this link are zeros."""
        found: list[DiskPiece] = []
        for extent, base, first, last in self._within(start, end):
            for piece in await extent.pieces(first, last):
                found.append(
                    DiskPiece(
                        piece.start + base, piece.end + base, piece.source, piece.delta - base
                    )
                )
        if end > self.size:
            found.append(DiskPiece(max(start, self.size), end, ZEROS, 0))
        return found

    async def load_directories(self, start: int, end: int) -> None:
        """Have the directory entries for a range at hand. Raises OSError, or Corrupt if there are none."""
        for extent, _, first, last in self._within(start, end):
            await extent.load_directory(first, last)

    def hint(self, start: int, end: int) -> None:
        """Prefetch the directory entries for a range, or the tables if those are at hand."""
        for extent, _, first, last in self._within(start, end):
            extent.hint(first, last)

    def _within(self, start: int, end: int) -> list[tuple[DiskExtent, int, int, int]]:
        """Return the extents in a range, each with its own start and the range within it."""
        found = []
        for index in range(bisect_right(self.ends, start), len(self.ends)):
            extent = self.extents[index]
            base = self.ends[index] - extent.size
            if base >= end:
                break
            if extent.size:
                found.append((extent, base, max(start - base, 0), min(end - base, extent.size)))
        return found


class ParentChanged(Corrupt):
    """A snapshot's parent has been written to since: what the chain reads as is nothing that ever was.

    Opening with `force` goes on all the same.
    """


class ChainReader:
    """Opens the links of one disk, with the caches that they share."""

    def __init__(
        self,
        opener: FileOpener,
        tables: TableCache,
        grains: GrainCache,
        warn: Callable[[str], None],
        *,
        force: bool,
    ) -> None:
        """With `force`, a link that does not fit its parent is a warning."""
        self._opener = opener
        self._tables = tables
        self._grains = grains
        self._warn = warn
        self._force = force

    async def open(self, name: str) -> tuple[Link, ...]:
        """Open a disk and its ancestors, the disk itself first.

        Raises NotRecognised if the file is no VMDK, another ParseError for damage anywhere in the chain,
        OSError where a file cannot be opened or read.
        """
        links = [await self._link(await self._opener.open(name, None))]
        seen = {links[0].name}
        while (hint := self._parent(links[-1])) is not None:
            child = links[-1]
            if len(links) == MAX_LINKS:
                raise Corrupt("chain too long", expected=f"at most {MAX_LINKS} links").named(name)
            file = await self._opener.open(hint, child.name)
            if file.name in seen:
                raise Corrupt(f"chain has a cycle: {file.name} again").named(child.name)
            seen.add(file.name)
            try:
                parent = await self._link(file)
            except NotRecognised as error:
                raise Corrupt(f"parent is not a VMDK: {error.message}").named(file.name) from None
            self._check(child, parent)
            links.append(parent)
            extents = sum(len(link.extents) for link in links)
            if extents > MAX_EXTENTS_OF_CHAIN:
                raise Corrupt("extents of a chain", expected=MAX_EXTENTS_OF_CHAIN, actual=extents)
        return tuple(links)

    def _parent(self, link: Link) -> str | None:
        descriptor = link.descriptor
        cid, hint = descriptor.parent_cid, descriptor.parent_hint
        if (cid is None) == (hint is None):
            return hint
        problem = (
            "parentFileNameHint without a parentCID"
            if cid is None
            else f"parentCID {cid:08x} without a parentFileNameHint"
        )
        self._doubt(link, problem)
        return hint

    def _check(self, child: Link, parent: Link) -> None:
        expected, actual = child.descriptor.parent_cid, parent.descriptor.cid
        if expected != actual and expected is not None:
            shown = "none" if actual is None else f"{actual:08x}"
            self._doubt(
                child,
                f"parent changed since the snapshot: parentCID {expected:08x}, {parent.name} has CID {shown}",
            )
        if parent.size != child.size:
            how = "shorter" if parent.size < child.size else "longer"
            self._warn(
                f"{parent.name}: {how} than its child: {parent.size} bytes, {child.name} has {child.size}"
            )

    def _doubt(self, link: Link, problem: str) -> None:
        if not self._force:
            raise ParentChanged(problem).named(link.name)
        self._warn(f"{link.name}: {problem}")

    async def _link(self, opened: OpenedFile) -> Link:
        file = TableFile(opened, self._tables)
        try:
            head = await file.read(0, min(PAGE, file.size))
            header = None
            if head[:4] == sparse.MAGIC:
                header = sparse.parse_header(head)
                descriptor = await _embedded(file, header)
            elif is_descriptor(head):
                if file.size > MAX_DESCRIPTOR:
                    raise Corrupt(
                        "descriptor too long",
                        expected=f"at most {MAX_DESCRIPTOR} bytes",
                        actual=file.size,
                    )
                descriptor = parse_descriptor(await file.read(0, file.size))
            elif head[:4] == cowd.MAGIC or sesparse.is_sesparse(head):
                raise _lone_extent()
            else:
                raise NotRecognised("not a VMDK: neither a descriptor nor an extent")
            for doubt in descriptor.doubts:
                self._warn(f"{file.name}: {doubt}")
            if header is None or _is_only_descriptor(header):
                return await self._separate(file.name, descriptor)
            return await self._single(file, header, descriptor)
        except ParseError as error:
            raise error.named(file.name) from None

    async def _single(
        self, file: TableFile, header: sparse.SparseHeader, descriptor: Descriptor
    ) -> Link:
        """Open a disk whose descriptor is in its one extent; the name there may be an old one."""
        lines = descriptor.extents
        if len(lines) != 1 or lines[0].kind != "SPARSE":
            raise Unsupported(f"descriptor of {len(lines)} extents within an extent")
        if lines[0].access is Access.NONE:
            extent: DiskExtent = _no_access(lines[0])
        else:
            extent = await self._sparse(file, header, lines[0].sectors)
        return Link(file.name, descriptor, (file.name,), (extent,), (extent.size,))

    async def _separate(self, name: str, descriptor: Descriptor) -> Link:
        """Open the extents that a descriptor names."""
        extents: list[DiskExtent] = []
        opened: dict[str, OpenedFile] = {}
        for line in descriptor.extents:
            if line.is_device or line.kind in _DEVICE_KINDS:
                raise Unsupported(
                    f"{line.kind} extent on a device of the host ({descriptor.create_type})"
                )
            if line.access is Access.NONE:
                extents.append(_no_access(line))
            elif line.kind == "ZERO":
                extents.append(SolidExtent(line.sectors * SECTOR, ZEROS))
            elif line.name is None or line.kind not in (*_FLAT_KINDS, *_SPARSE_KINDS, "SESPARSE"):
                raise Unsupported(f"extent type {line.kind}")
            else:
                if line.name not in opened:
                    opened[line.name] = await self._opener.open(line.name, name)
                extents.append(await self._extent(opened[line.name], line))
        ends = tuple(accumulate(extent.size for extent in extents))
        files = tuple(dict.fromkeys(file.name for file in opened.values()))
        return Link(name, descriptor, files, tuple(extents), ends)

    async def _extent(self, opened: OpenedFile, line: ExtentLine) -> DiskExtent:
        try:
            if line.kind in _FLAT_KINDS:
                return flat_extent(line, opened)
            if line.offset:
                raise Unsupported(f"{line.kind} extent that starts within its file")
            file = TableFile(opened, self._tables)
            head = await file.read(0, min(PAGE, file.size))
            if line.kind == "SESPARSE":
                return await self._sesparse(file, head, line.sectors)
            if head[:4] == cowd.MAGIC:
                return cowd.CowdExtent(file, cowd.parse_header(head), line.sectors)
            return await self._sparse(file, sparse.parse_header(head), line.sectors)
        except ParseError as error:
            raise error.named(opened.name) from None

    async def _sparse(
        self, file: TableFile, header: sparse.SparseHeader, sectors: int
    ) -> DiskExtent:
        def warn(message: str) -> None:
            self._warn(f"{file.name}: {message}")

        if header.directory == sparse.AT_END:
            header = await read_footer(file)
        if header.is_compressed:
            return StreamExtent(file, header, sectors, warn, self._grains)
        return sparse.SparseExtent(file, header, sectors, warn)

    async def _sesparse(self, file: TableFile, head: Buffer, sectors: int) -> DiskExtent:
        header = sesparse.parse_header(head)
        volatile = header.volatile_offset * SECTOR
        sesparse.check_volatile(await file.read(volatile, sesparse.VOLATILE.size), volatile)
        return sesparse.SeSparseExtent(file, header, sectors)


async def _embedded(file: TableFile, header: sparse.SparseHeader) -> Descriptor:
    """Read the descriptor in a sparse extent."""
    if not header.descriptor_offset or not header.descriptor_size:
        raise _lone_extent()
    length = header.descriptor_size * SECTOR
    if length > MAX_DESCRIPTOR:
        raise Corrupt(
            "descriptor too long", expected=f"at most {MAX_DESCRIPTOR} bytes", actual=length
        )
    start = header.descriptor_offset * SECTOR
    try:
        return parse_descriptor(await file.read(start, length))
    except NotRecognised:
        raise Corrupt(
            "sparse extent without the descriptor that its header announces", start
        ) from None


def _is_only_descriptor(header: sparse.SparseHeader) -> bool:
    """Tell whether a sparse header is there for its descriptor only, and the extents are elsewhere."""
    return header.capacity == 0 and header.directory != sparse.AT_END


def _lone_extent() -> Unsupported:
    return Unsupported(
        "an extent without its descriptor", remedy="open the descriptor file that names it"
    )


def _no_access(line: ExtentLine) -> SolidExtent:
    name = "" if line.name is None else f" ({line.name})"
    return SolidExtent(
        line.sectors * SECTOR, Refused(Unsupported(f"reading an extent of access NOACCESS{name}"))
    )
