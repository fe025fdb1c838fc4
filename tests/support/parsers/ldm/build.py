"""Writes LDM databases: the test data that Windows is not at hand to make.

The partition tables are written by sfdisk and sgdisk, the structures with the layouts that also read them;
that they are right is for ldmtool to say.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from vmount.parsers.ldm.structures import PRIVHEAD, TOCBLOCK, VMDB, checksum
from vmount.parsers.ldm.vblk import RAID5, RECORD, SPANNED, STRIPED, VBLK

SECTOR = 512
DISK_SECTORS = 8192
DATABASE_SECTORS = 2048
CONFIG_START = 17
CONFIG_SECTORS = 1481
VBLK_SIZE = 128
GPT_DATABASE = 34
GPT_DATA = 34 + DATABASE_SECTORS
GUIDS = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def guid(name: str) -> uuid.UUID:
    return uuid.uuid5(GUIDS, name)


@dataclass(frozen=True)
class Piece:
    """A partition, in sectors of a disk's data."""

    disk: int
    start: int
    size: int


@dataclass(frozen=True)
class Copy:
    """A component. `columns` holds the pieces of each."""

    columns: tuple[tuple[Piece, ...], ...]
    type: int = SPANNED
    chunk: int = 0
    state: str = "ACTIVE"


@dataclass(frozen=True)
class Volume:
    name: str
    size: int
    copies: tuple[Copy, ...]
    hint: str | None = None

    @property
    def type(self) -> str:
        return "raid5" if self.copies[0].type == RAID5 else "gen"


def spanned(*pieces: Piece) -> Copy:
    return Copy((pieces,))


def striped(*pieces: Piece, chunk: int = 128) -> Copy:
    return Copy(tuple((piece,) for piece in pieces), STRIPED, chunk)


def raid5(*pieces: Piece, chunk: int = 128) -> Copy:
    return Copy(tuple((piece,) for piece in pieces), RAID5, chunk)


@dataclass(frozen=True)
class Group:
    """A disk group and how it is written."""

    disks: int
    volumes: tuple[Volume, ...]
    name: str = "Built-Dg0"
    gpt: bool = False
    sequence: int = 100
    pending_sequence: int | None = None
    update_status: int = 1
    revision: int = 3
    """Of the records of disks: 3 (GUID as text) or 4 (binary)."""
    seed: int = 1
    """For the places of the records; 0 leaves them in order."""
    extra: tuple[bytes, ...] = field(default=())
    """Records besides those that the volumes need."""

    @property
    def guid(self) -> uuid.UUID:
        return guid(self.name)

    def disk_guid(self, number: int) -> uuid.UUID:
        return guid(f"{self.name} {number}")

    @property
    def data_start(self) -> int:
        return GPT_DATA if self.gpt else 63

    @property
    def data_size(self) -> int:
        return DISK_SECTORS - DATABASE_SECTORS - (GPT_DATA - GPT_DATABASE if self.gpt else 63) - 63

    @property
    def database_start(self) -> int:
        return GPT_DATABASE if self.gpt else DISK_SECTORS - DATABASE_SECTORS


def number(value: int) -> bytes:
    """A number with its length in front."""
    size = max(1, (value.bit_length() + 7) // 8)
    return bytes([size]) + value.to_bytes(size, "big")


def text(value: str) -> bytes:
    """A text with its length in front."""
    encoded = value.encode()
    return bytes([len(encoded)]) + encoded


def record(kind: int, flags: int, body: bytes, status: int = 0) -> bytes:
    return RECORD.build(status=status, flags=flags, type=kind, size=len(body)) + body


COMMIT = (0x404).to_bytes(8, "big")


def volume_record(identifier: int, volume: Volume, status: int = 0) -> bytes:
    body = number(identifier) + text(volume.name) + text(volume.type) + text("")
    body += b"ACTIVE".ljust(14, b"\0")
    body += bytes([4 if volume.type == "raid5" else 3, 0, 5, 0, 0, 0, 0x11])
    body += number(len(volume.copies)) + COMMIT + COMMIT + number(volume.size) + bytes(4)
    body += b"\x07" + guid(volume.name).bytes
    flags = 0
    if volume.hint is not None:
        flags, body = 2, body + text(volume.hint)
    return record(0x51, flags, body, status)


def records(group: Group) -> list[bytes]:
    """All records of a group."""
    result = [
        record(
            0x35,
            8,
            number(0x401)
            + text(group.name)
            + text(str(group.guid))
            + bytes(4)
            + COMMIT
            + bytes.fromhex("04ffffffff04ffffffff"),
        )
    ]
    for disk in range(group.disks):
        body = number(0x500 + disk) + text(f"Disk{disk + 1}")
        if group.revision == 3:
            body += text(str(group.disk_guid(disk))) + text("SCSI\\DISK&VEN_TEST" + "&0" * 30)
            result.append(record(0x34, 0, body + bytes(4) + COMMIT))
        else:
            body += group.disk_guid(disk).bytes + group.guid.bytes
            result.append(record(0x44, 0, body + bytes(4) + COMMIT))
    identifier = 0x600
    counts = [0] * group.disks
    for volume in group.volumes:
        identifier += 1
        volume_id = identifier
        result.append(volume_record(volume_id, volume))
        for index, copy in enumerate(volume.copies):
            identifier += 1
            component_id = identifier
            stripes = copy.type != SPANNED
            pieces = sum(map(len, copy.columns))
            body = number(component_id) + text(f"{volume.name}-{index + 1:02}") + text(copy.state)
            body += bytes([copy.type, 0, 0, 0, 0]) + number(pieces) + COMMIT + bytes(8)
            body += number(volume_id) + b"\0"
            if stripes:
                body += number(copy.chunk) + number(len(copy.columns))
            result.append(record(0x32, 0x10 if stripes else 0, body))
            for column, column_pieces in enumerate(copy.columns):
                offset = 0
                for piece in column_pieces:
                    identifier += 1
                    counts[piece.disk] += 1
                    name = f"Disk{piece.disk + 1}-{counts[piece.disk]:02}"
                    body = number(identifier) + text(name) + bytes(4) + COMMIT
                    body += piece.start.to_bytes(8, "big") + offset.to_bytes(8, "big")
                    body += number(piece.size) + number(component_id)
                    body += number(0x500 + piece.disk)
                    if column:
                        body += number(column)
                    result.append(record(0x33, 8 if column else 0, body))
                    offset += piece.size
    return result


@lru_cache(maxsize=4)
def vblks(group: Group) -> bytes:
    """The records in VBLKs, fragmented where they are long, in a random order with free ones between."""
    fragments = []
    room = VBLK_SIZE - VBLK.size
    for serial, data in enumerate([*records(group), *group.extra], 2):
        count = -(-len(data) // room)
        fragments += [
            (serial, index, count, data[index * room : (index + 1) * room])
            for index in range(count)
        ]
    fragments += [(0, 0, 0, b"")] * 20
    if group.seed:
        random.Random(group.seed).shuffle(fragments)
    used = b"".join(
        VBLK.build(magic=b"VBLK", number=4 + place, group=serial, index=index, count=count)
        + data.ljust(room, b"\0")
        for place, (serial, index, count, data) in enumerate(fragments)
    )
    places = range(4 + len(fragments), CONFIG_SECTORS * SECTOR // VBLK_SIZE)
    free = (b"VBLK" + place.to_bytes(4, "big") + bytes(VBLK_SIZE - 8) for place in places)
    return used + b"".join(free)


def with_checksum(sector: bytes) -> bytes:
    padded = sector.ljust(SECTOR, b"\0")
    return padded[:8] + checksum(padded).to_bytes(4, "big") + padded[12:]


def privhead(group: Group, disk: int) -> bytes:
    return with_checksum(
        PRIVHEAD.build(
            magic=b"PRIVHEAD",
            major=2,
            minor=12 if group.revision == 4 else 11,
            disk_guid=str(group.disk_guid(disk)).encode().ljust(64, b"\0"),
            host_guid=str(guid("host")).encode().ljust(64, b"\0"),
            group_guid=str(group.guid).encode().ljust(64, b"\0"),
            group_name=group.name.encode().ljust(32, b"\0"),
            data_start=group.data_start,
            data_size=group.data_size,
            database_start=group.database_start,
            database_size=DATABASE_SECTORS,
            toc_count=1,
            toc_size=DATABASE_SECTORS - 2,
            config_count=1,
            log_count=1,
            config_size=CONFIG_SECTORS,
            log_size=224,
        )
    )


def tocblock(sequence: int) -> bytes:
    return with_checksum(
        TOCBLOCK.build(
            magic=b"TOCBLOCK",
            sequence=sequence,
            name_1=b"config\0\0",
            start_1=CONFIG_START,
            size_1=CONFIG_SECTORS,
            name_2=b"log\0\0\0\0\0",
            start_2=CONFIG_START + CONFIG_SECTORS,
            size_2=224,
        )
    )


def vmdb(group: Group) -> bytes:
    components = [copy for volume in group.volumes for copy in volume.copies]
    counts = {
        "volumes": len(group.volumes),
        "components": len(components),
        "partitions": sum(len(column) for copy in components for column in copy.columns),
        "disks": group.disks,
    }
    pending = group.sequence if group.pending_sequence is None else group.pending_sequence
    return VMDB.build(
        magic=b"VMDB",
        vblk_count=CONFIG_SECTORS * SECTOR // VBLK_SIZE,
        vblk_size=VBLK_SIZE,
        vblk_offset=SECTOR,
        update_status=group.update_status,
        major=4,
        minor=10,
        group_name=group.name.encode().ljust(31, b"\0"),
        group_guid=str(group.guid).encode().ljust(64, b"\0"),
        committed_sequence=group.sequence,
        pending_sequence=pending,
        **{f"committed_{name}": count for name, count in counts.items()},
        **{f"pending_{name}": count for name, count in counts.items()},
    ).ljust(SECTOR, b"\0")


def database(group: Group, disk: int) -> bytes:
    """The database of a disk, all of its 2048 sectors."""
    data = bytearray(DATABASE_SECTORS * SECTOR)

    def put(sector: int, content: bytes) -> None:
        data[sector * SECTOR : sector * SECTOR + len(content)] = content

    for sector in (1, DATABASE_SECTORS - 2):
        put(sector, tocblock(5))
    for sector in (2, DATABASE_SECTORS - 3):
        put(sector, tocblock(4))
    put(CONFIG_START, vmdb(group) + vblks(group))
    for sector in (1856, DATABASE_SECTORS - 1):
        put(sector, privhead(group, disk))
    return bytes(data)


@lru_cache
def empty_disk(gpt: bool) -> bytes:
    """A disk with the partition table of a dynamic disk and nothing else."""
    data_size = Group(1, (), gpt=gpt).data_size
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(DISK_SECTORS * SECTOR)
        if gpt:
            commands = [
                "--set-alignment=1",
                f"--new=1:{GPT_DATABASE}:{GPT_DATA - 1}",
                "--typecode=1:5808C8AA-7E8F-42E0-85D2-E1E90434CFB3",
                f"--new=2:{GPT_DATA}:{GPT_DATA + data_size - 1}",
                "--typecode=2:AF9B60A0-1431-4F62-BC68-3311714A69AD",
            ]
            subprocess.run(["sgdisk", *commands, file.name], check=True, capture_output=True)
        else:
            table = f"label: dos\nstart=63, size={DISK_SECTORS - DATABASE_SECTORS - 63}, type=42\n"
            subprocess.run(
                ["sfdisk", "--force", file.name],
                input=table.encode(),
                check=True,
                capture_output=True,
            )
        return Path(file.name).read_bytes()


def write_disk(group: Group, disk: int, path: Path) -> None:
    """Write one member: partition table and database."""
    image = bytearray(empty_disk(group.gpt))
    if not group.gpt:
        image[6 * SECTOR : 7 * SECTOR] = privhead(group, disk)
    start = group.database_start * SECTOR
    image[start : start + DATABASE_SECTORS * SECTOR] = database(group, disk)
    path.write_bytes(image)


def write_group(group: Group, folder: Path, prefix: str = "disk") -> list[Path]:
    """Write all members."""
    paths = []
    for disk in range(group.disks):
        path = folder / f"{prefix}{disk + 1}.img"
        write_disk(group, disk, path)
        paths.append(path)
    return paths


def newer(group: Group, **changes: object) -> Group:
    """The same group after a change."""
    return replace(group, sequence=group.sequence + 1, **changes)  # type: ignore[arg-type]


ALL_KINDS = (
    Volume("Simple1", 512, (spanned(Piece(0, 0, 512)),), "E:"),
    Volume("Span1", 900, (spanned(Piece(1, 0, 300), Piece(0, 512, 400), Piece(1, 700, 200)),)),
    Volume("Stripe1", 1536, (striped(Piece(0, 1024, 512), Piece(1, 1024, 512), Piece(2, 0, 512)),)),
    Volume("Mirror1", 300, (spanned(Piece(0, 1536, 300)), spanned(Piece(2, 512, 300))), "F:"),
    Volume("Raid1", 1024, (raid5(Piece(2, 1024, 512), Piece(1, 1536, 512), Piece(0, 2048, 512)),)),
)
MIRROR_OF_SPANS = Volume(
    "Mirror2",
    500,
    (
        spanned(Piece(0, 3000, 200), Piece(1, 3000, 300)),
        spanned(Piece(2, 3000, 400), Piece(3, 3000, 100)),
    ),
)
