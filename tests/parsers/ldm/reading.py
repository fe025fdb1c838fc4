"""What the tests of dynamic disks share: disks in files, and what ldmtool says of them."""

from __future__ import annotations

import json
import mmap
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from parsers.ldm.disk import LdmDisk, read_ldm_disk
from parsers.ldm.group import LdmResult, LdmVolume, assemble
from parsers.mapping import Area, Concat, Mapping, Mirror, Parity, Stripe
from parsers.reader import BlockSource, BytesReader, run_sync
from vmount.assembly import build_source

SECTOR = 512


class Extent(NamedTuple):
    """Bytes of a disk."""

    disk: str
    start: int
    length: int


def open_disk(path: Path) -> BlockSource:
    with path.open("rb") as file:
        return BytesReader(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def read_disk(source: BlockSource) -> LdmDisk:
    return run_sync(read_ldm_disk(source))


def assemble_files(*paths: Path) -> LdmResult:
    return assemble([(path.name, read_disk(open_disk(path))) for path in paths])


def source_of(volume: LdmVolume, *paths: Path) -> BlockSource:
    source = build_source(volume.mapping, {path.name: open_disk(path) for path in paths})
    assert source.size == volume.size
    return source


def extents(mapping: Mapping) -> list[Extent]:
    match mapping:
        case Area(device, start, length):
            return [Extent(device, start, length)]
        case Concat(parts) | Stripe(parts) | Mirror(parts) | Parity(parts):
            return [extent for part in parts for extent in extents(part)]
    raise AssertionError(mapping)


def chunk_of(mapping: Mapping) -> int:
    if isinstance(mapping, Mirror):
        return chunk_of(mapping.copies[0])
    return mapping.chunk if isinstance(mapping, Stripe | Parity) else 0


class ToolVolume(NamedTuple):
    """A volume as ldmtool shows it, in bytes."""

    name: str
    guid: str
    kind: str
    size: int
    chunk: int
    hint: str | None
    extents: list[Extent]


def ldmtool_volumes(*paths: Path) -> list[ToolVolume]:
    """Return all volumes, the extents of each in order."""
    groups = _ldmtool([], "scan", *map(str, paths))
    devices = [argument for path in paths for argument in ("-d", str(path))]
    found = []
    for group in groups:
        shown = _ldmtool(devices, "show", "diskgroup", group)
        for name in sorted(shown["volumes"]):
            volume = _ldmtool(devices, "show", "volume", group, name)
            pieces = []
            for partition_name in volume["partitions"]:
                partition = _ldmtool(devices, "show", "partition", group, partition_name)
                disk = _ldmtool(devices, "show", "disk", group, partition["disk"])
                if disk["present"]:
                    start = (disk["data-start"] + partition["start"]) * SECTOR
                    device = Path(disk["device"]).name
                    pieces.append(Extent(device, start, partition["size"] * SECTOR))
                else:
                    pieces.append(Extent("", 0, partition["size"] * SECTOR))
            found.append(
                ToolVolume(
                    volume["name"],
                    volume["guid"],
                    volume["type"].lower(),
                    volume["size"] * SECTOR,
                    volume["chunk-size"] * SECTOR,
                    volume.get("hint"),
                    pieces,
                )
            )
    return found


def _ldmtool(devices: list[str], *arguments: str) -> Any:
    done = subprocess.run(
        ["ldmtool", *devices, *arguments], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def assert_as_ldmtool(result: LdmResult, *paths: Path) -> None:
    """Compare every volume and every extent."""
    theirs = ldmtool_volumes(*paths)
    assert len(theirs) == len(result.volumes)
    for volume, other in zip(result.volumes, theirs, strict=True):
        assert volume.problem is None
        mine = ToolVolume(
            volume.name,
            volume.guid,
            volume.kind,
            volume.size,
            chunk_of(volume.mapping),
            volume.drive_hint,
            extents(volume.mapping),
        )
        assert mine == other
