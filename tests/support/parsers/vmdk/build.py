"""Writers for the forms of extent that no program on this machine writes, made of the layouts.

Each takes the grains of an extent by number: bytes, or None for a grain that reads as zeros; a grain that
is not given is not allocated. What they write is read by qemu-img too, so the tests compare with that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from vmount.parsers.vmdk import cowd, sesparse, sparse, stream

SECTOR = 512
Grains = Mapping[int, bytes | None]


class Image:
    """A file that is mostly a hole."""

    def __init__(self) -> None:
        self.size = 0
        self._blocks: list[tuple[int, bytes]] = []

    def put(self, offset: int, data: bytes) -> None:
        self._blocks.append((offset, data))
        self.size = max(self.size, offset + len(data))

    def put_entry(self, offset: int, value: int, size: int) -> None:
        self.put(offset, value.to_bytes(size, "little"))

    def append(self, data: bytes, alignment: int = SECTOR) -> int:
        """Add data at the end, aligned; return where it is, in sectors."""
        offset = -(-self.size // alignment) * alignment
        self.put(offset, data)
        return offset // SECTOR

    def write(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.truncate(self.size)
            for offset, data in self._blocks:
                file.seek(offset)
                file.write(data)
        return path


def descriptor(
    extents: Iterable[str],
    *,
    create_type: str = "twoGbMaxExtentSparse",
    cid: int = 0x12345678,
    parent: tuple[int, str] | None = None,
    extra: str = "",
) -> str:
    """Return a descriptor's text; `parent` is its CID and file name."""
    hint = "" if parent is None else f'parentFileNameHint="{parent[1]}"\n'
    parent_cid = 0xFFFFFFFF if parent is None else parent[0]
    lines = "\n".join(extents)
    return (
        f"# Disk DescriptorFile\nversion=1\n{extra}CID={cid:08x}\nparentCID={parent_cid:08x}\n"
        f'createType="{create_type}"\n{hint}\n# Extent description\n{lines}\n\n'
        '# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = "14"\nddb.adapterType = "lsilogic"\n'
    )


def hosted(
    sectors: int,
    grains: Grains,
    text: str = "",
    *,
    grain_size: int = 128,
    redundant: bool = True,
    padding: int = 0,
) -> Image:
    """A hosted sparse extent; `padding` bytes of another program's lie before the first grain."""
    image = Image()
    image.put(0, bytes(SECTOR))
    room = -(-len(text) // SECTOR) + 4 if text else 0
    if text:
        image.put(SECTOR, text.encode().ljust(room * SECTOR, b"\0"))
    tables = -(-sectors // (grain_size * 512))
    copies = []
    for _ in range(2 if redundant else 1):
        directory = image.append(bytes(4 * tables))
        first = image.append(b"") if tables * 2048 < 1 << 20 else None
        used = sorted({number // 512 for number in grains})
        places = {}
        if first is not None:
            places = {index: first + 4 * index for index in range(tables)}
            image.put(first * SECTOR + tables * 2048 - 1, b"\0")
        else:
            places = {index: image.append(bytes(2048)) for index in used}
        for index, place in places.items():
            image.put_entry(directory * SECTOR + 4 * index, place, 4)
        copies.append((directory, places))
    if padding:
        image.append(bytes(padding))
    for number, data in grains.items():
        value = 1 if data is None else image.append(data.ljust(grain_size * SECTOR, b"\0"))
        for _, places in copies:
            image.put_entry(places[number // 512] * SECTOR + number % 512 * 4, value, 4)
    zeroed = sparse.FLAG_ZEROED if None in grains.values() else 0
    header = sparse.HEADER.build(
        magic=sparse.MAGIC,
        version=2 if zeroed else 1,
        flags=sparse.FLAG_NEWLINES | zeroed | (sparse.FLAG_REDUNDANT if redundant else 0),
        capacity=sectors,
        grain_size=grain_size,
        descriptor_offset=1 if text else 0,
        descriptor_size=room,
        table_entries=512,
        redundant_directory=copies[-1][0] if redundant else 0,
        directory=copies[0][0],
        overhead=1,
        newlines=sparse.NEWLINES,
    )
    image.put(0, header)
    return image


def streamed(sectors: int, grains: Mapping[int, bytes], text: str, *, level: int = 6) -> Image:
    """A stream with its directory at the end, as VMware writes it; grains in the order given."""
    image, grain_size = Image(), 128
    room = 20
    common = {
        "magic": sparse.MAGIC,
        "version": 3,
        "flags": sparse.FLAG_NEWLINES | sparse.FLAG_COMPRESSED | sparse.FLAG_MARKERS,
        "capacity": sectors,
        "grain_size": grain_size,
        "descriptor_offset": 1,
        "descriptor_size": room,
        "table_entries": 512,
        "overhead": 128,
        "newlines": sparse.NEWLINES,
        "compression": 1,
    }
    image.put(0, sparse.HEADER.build(**common, directory=sparse.AT_END))
    image.put(SECTOR, text.encode().ljust(room * SECTOR, b"\0"))
    image.put(128 * SECTOR - 1, b"\0")
    tables: dict[int, bytearray] = {}
    for number, data in grains.items():
        packed = zlib.compress(data, level)
        marker = stream.GRAIN_MARKER.build(lba=number * grain_size, length=len(packed))
        place = image.append(marker + packed)
        table = tables.setdefault(number // 512, bytearray(2048))
        table[number % 512 * 4 : number % 512 * 4 + 4] = place.to_bytes(4, "little")
    directory = bytearray(4 * -(-sectors // (grain_size * 512)))
    for index, table in tables.items():
        image.append(stream.MARKER.build(sectors=4, kind=1))
        directory[4 * index : 4 * index + 4] = image.append(bytes(table)).to_bytes(4, "little")
    image.append(stream.MARKER.build(sectors=-(-len(directory) // SECTOR), kind=2))
    place = image.append(bytes(directory))
    image.append(stream.MARKER.build(sectors=1, kind=stream.FOOTER_KIND))
    image.append(sparse.HEADER.build(**common, directory=place))
    image.append(bytes(SECTOR))
    return image


def cow(sectors: int, grains: Mapping[int, bytes], *, grain_size: int = 1) -> Image:
    """An ESX sparse extent."""
    image = Image()
    tables = -(-sectors // (grain_size * cowd.TABLE_ENTRIES))
    image.put(cowd.HEADER_SECTORS * SECTOR, bytes(-(-tables * 4 // SECTOR) * SECTOR))
    places: dict[int, int] = {}
    for number, data in grains.items():
        index, entry = divmod(number, cowd.TABLE_ENTRIES)
        if index not in places:
            places[index] = image.append(bytes(cowd.TABLE_ENTRIES * 4))
            image.put_entry(cowd.HEADER_SECTORS * SECTOR + 4 * index, places[index], 4)
        place = image.append(data.ljust(grain_size * SECTOR, b"\0"))
        image.put_entry(places[index] * SECTOR + 4 * entry, place, 4)
    header = cowd.HEADER.build(
        magic=cowd.MAGIC,
        version=1,
        flags=3,
        capacity=sectors,
        grain_size=grain_size,
        directory=cowd.HEADER_SECTORS,
        directory_entries=tables,
        free_sector=-(-image.size // SECTOR),
    )
    image.put(0, header)
    return image


def space_efficient(
    sectors: int,
    grains: Grains,
    *,
    unmapped: Iterable[int] = (),
    header: Mapping[str, object] | None = None,
) -> Image:
    """A seSparse extent; numbers of tables and grains are given from the last to the first."""
    image = Image()
    entries = sesparse.TABLE_SECTORS * SECTOR // 8
    covers = entries * sesparse.GRAIN_SECTORS
    used = sorted({n // entries for n in (*grains, *unmapped)}, reverse=True)
    numbers = {index: number for number, index in enumerate(used)}
    directory = 128
    directory_size = max(-(-8 * -(-sectors // covers) // SECTOR), 1)
    tables = -(-(directory + directory_size) // 128) * 128
    tables_size = len(used) * sesparse.TABLE_SECTORS
    data = -(-(tables + tables_size) // 128) * 128
    stored = sorted((n for n, g in grains.items() if g is not None), reverse=True)
    for index, number in numbers.items():
        image.put_entry(directory * SECTOR + 8 * index, 0x1 << 60 | number, 8)

    def entry(grain: int, value: int) -> None:
        table = tables * SECTOR + numbers[grain // entries] * sesparse.TABLE_SECTORS * SECTOR
        image.put_entry(table + grain % entries * 8, value, 8)

    for place, number in enumerate(stored):
        content = grains[number]
        assert content is not None
        image.put((data + place * 8) * SECTOR, content.ljust(8 * SECTOR, b"\0"))
        entry(number, 0x3 << 60 | (place & 0xFFF) << 48 | place >> 12)
    for number, content in grains.items():
        if content is None:
            entry(number, 0x2 << 60)
    for number in unmapped:
        entry(number, 0x1 << 60)
    image.put((data + len(stored) * 8) * SECTOR - 1, b"" if stored else b"\0")
    values: dict[str, object] = {
        "magic": sesparse.MAGIC,
        "version": sesparse.VERSION,
        "capacity": sectors,
        "grain_size": 8,
        "table_size": 64,
        "volatile_offset": 1,
        "volatile_size": 1,
        "directory_offset": directory,
        "directory_size": directory_size,
        "tables_offset": tables,
        "tables_size": tables_size,
        "grains_offset": data,
        "grains_size": len(stored) * 8,
    }
    image.put(0, sesparse.HEADER.build(**{**values, **(header or {})}))
    image.put(SECTOR, sesparse.VOLATILE.build(magic=sesparse.VOLATILE_MAGIC))
    return image
