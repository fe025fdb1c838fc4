"""What the tests of dynamic disks share: disks in files, and what ldmtool says of them."""

from __future__ import annotations

import json
import mmap
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from vmount.blocks.assembly import build_source
from vmount.parsers.ldm.disk import LdmDisk, read_ldm_disk
from vmount.parsers.ldm.group import LdmResult, LdmVolume, assemble
from vmount.parsers.reader import BlockSource, BytesReader, run_sync
from vmount.parsers.volume_map import Area, Concat, Mirror, Parity, Stripe, VolumeMap

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


def extents(mapping: VolumeMap) -> list[Extent]:
    match mapping:
        case Area(device, start, length):
            return [Extent(device, start, length)]
        case Concat(parts) | Stripe(parts) | Mirror(parts) | Parity(parts):
            return [extent for part in parts for extent in extents(part)]
    raise AssertionError(mapping)


def chunk_of(mapping: VolumeMap) -> int:
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
    """Return all volumes of disks that are all of one group, the extents of each as ldmtool has them."""
    scan = "scan " + " ".join(map(str, paths))
    (group,) = _ldmtool(scan)[0]
    _, shown = _ldmtool(scan, f"show diskgroup {group}")
    names = sorted(shown["volumes"])
    _, *volumes = _ldmtool(scan, *(f"show volume {group} {name}" for name in names))
    partition_names = [name for volume in volumes for name in volume["partitions"]]
    _, *partitions = _ldmtool(scan, *(f"show partition {group} {name}" for name in partition_names))
    _, *disks = _ldmtool(scan, *(f"show disk {group} {name}" for name in shown["disks"]))
    by_name = {disk["name"]: disk for disk in disks}
    pieces = {}
    for partition in partitions:
        disk = by_name[partition["disk"]]
        start = (disk["data-start"] + partition["start"]) * SECTOR
        device = Path(disk["device"]).name
        pieces[partition["name"]] = Extent(device, start, partition["size"] * SECTOR)
    return [
        ToolVolume(
            volume["name"],
            volume["guid"],
            volume["type"].lower(),
            volume["size"] * SECTOR,
            volume["chunk-size"] * SECTOR,
            volume.get("hint"),
            [pieces[name] for name in volume["partitions"]],
        )
        for volume in volumes
    ]


def _ldmtool(*commands: str) -> list[Any]:
    """Give commands to ldmtool's shell and return what each printed."""
    done = subprocess.run(
        ["ldmtool"], input="\n".join(commands) + "\n", check=True, capture_output=True, text=True
    )
    answers = []
    for part in done.stdout.split("ldm> ")[1:]:
        _, _, printed = part.partition("\n")
        if printed.strip():
            answers.append(json.loads(printed))
    assert len(answers) == len(commands), done.stderr
    return answers


def assert_as_ldmtool(result: LdmResult, *paths: Path, in_order: bool = True) -> None:
    """Compare every volume and every extent.

    ldmtool has the pieces of a span, and copies, in the order of their records: `in_order` is for
    databases in which that is the order of the volume too.
    """
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
        if not in_order and volume.kind in ("spanned", "mirrored"):
            other = other._replace(extents=sorted(other.extents))
            mine = mine._replace(extents=sorted(mine.extents))
        assert mine == other, f"{mine} != {other}"
