"""All targets, and the inputs to begin with."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import starmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fixtures.guests import build_linux, build_windows
from fixtures.hives import SZ, Form, Key, build_hive
from tests.fuzz import images
from tests.fuzz.decoders import DECODERS
from tests.fuzz.disk import DAMAGE, DamagedDisk, Recorder
from tests.fuzz.walks import FORGIVEN, walk
from tests.support.parsers.ldm.build import ALL_KINDS, Group, records
from tests.support.parsers.vmdk.build import descriptor
from tests.support.parsers.volume_images import load
from vmount.blocks.assembly import build_source
from vmount.disks.disk import Disk
from vmount.guest.machine import find_guest
from vmount.parsers.exfat import open_exfat
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.fat import open_fat
from vmount.parsers.ldm.disk import read_ldm_disk
from vmount.parsers.ldm.group import assemble
from vmount.parsers.lvm.btree import BLOCK, NODE_SALT, block_checksum
from vmount.parsers.model import Filesystem
from vmount.parsers.ntfs import open_ntfs
from vmount.parsers.partition.table import read_partition_table
from vmount.parsers.reader import BlockSource, BytesReader, run_sync
from vmount.parsers.signatures import identify
from vmount.parsers.vmdk.disk import open_vmdk
from vmount.parsers.vmdk.opener import OpenedFile
from vmount.parsers.vmdk.sesparse import is_sesparse
from vmount.parsers.vmfs.filesystem import open_vmfs
from vmount.parsers.xfs.filesystem import open_xfs
from vmount.runtime import InlineRuntime
from vmount.volumes.find import find_volumes

Use = Callable[[Any], Coroutine[Any, Any, object]]
"""Does with a disk all that can be done. Raises what is in FORGIVEN."""

ROOT = Path(__file__).parents[2]
VMFS_ARCHIVE = (
    Path(os.environ.get("VMOUNT_SHARED", ROOT.parent / "shared")) / "vmfs/vmfs-luns.tar.xz"
)
"""Optional: datastores that ESXi made."""
DISKS = ("machine", "ext", "xfs", "ntfs", "fat", "exfat", "partitions", "ldm", "vmdk", "vmfs")
GROUPS = ("lvm-plain", "lvm-raids", "lvm-thin", "lvm-snap", "md-far", "md-6ls", "md-one090")
"""Of these the first members, which is what there is of some volumes."""
DAMAGED_SEEDS = 12
"""Inputs with random damages to begin with, besides the one without any."""


@dataclass(frozen=True)
class Target:
    """Something to be fuzzed."""

    name: str
    run: Callable[[bytes], None]
    """Raises nothing, whatever the bytes are."""
    seeds: tuple[bytes, ...]


@dataclass(frozen=True)
class Image:
    """An undamaged disk, and where its metadata is."""

    data: bytes
    units: Sequence[int]


def names() -> list[str]:
    """Return the targets that can be run here."""
    return [*DECODERS, *(name for name in DISKS if name != "vmfs" or VMFS_ARCHIVE.exists())]


def target(name: str) -> Target:
    """Return a target with its seeds, which takes a second or two to make."""
    if name in DECODERS:
        return Target(name, _forgiving(DECODERS[name]), tuple(_decoder_seeds(name)))
    images_of_it, use = undamaged(name), _USES[name]

    def run(data: bytes) -> None:
        head, damages = data[:1], data[1:]
        image = images_of_it[(head or b"\0")[0] % len(images_of_it)]
        run_sync(use(DamagedDisk(image.data, image.units, damages)))

    return Target(name, _forgiving(run), tuple(_damages(name, len(images_of_it))))


def undamaged(name: str) -> list[Image]:
    """Return the images of one of DISKS."""
    use = _USES[name]
    with TemporaryDirectory(prefix="vmount-fuzz-") as folder:
        return [_recorded(data, use) for data in _disks(name, Path(folder))]


def _forgiving(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        with contextlib.suppress(*FORGIVEN):
            function(data)

    return run


def _recorded(data: bytes, use: Use) -> Image:
    recorder = Recorder(data)
    run_sync(use(recorder))
    return Image(data, recorder.units())


def _damages(name: str, disks: int) -> list[bytes]:
    chosen = random.Random(name)
    seeds = [bytes([number]) for number in range(disks)]
    for number in range(DAMAGED_SEEDS):
        seeds.append(bytes([number % disks]) + chosen.randbytes(DAMAGE.size * (1 + number % 3)))
    return seeds


async def _use_volume(
    open_volume: Callable[[BlockSource], Awaitable[Filesystem]], disk: BlockSource
) -> None:
    await identify(disk)
    # What a file holds is of no interest unless it has to be decoded.
    seen = await walk(await open_volume(disk), disk, contents=not isinstance(disk, Recorder))
    assert seen or not isinstance(disk, Recorder)


async def _use_machine(disk: BlockSource) -> None:
    """Find the volumes and the guest. Whatever is damaged, this is no error, but a remark."""
    try:
        found = await find_volumes([Disk("disk0", "disk", "raw", disk)], InlineRuntime())
        await find_guest(found, InlineRuntime(), {})
    except FORGIVEN as error:
        raise AssertionError("damage of one object costs the machine") from error


async def _use_datastore(disk: BlockSource) -> None:
    await walk(await open_vmfs([disk]), disk, contents=False)


async def _use_partitions(disk: BlockSource) -> None:
    await read_partition_table(disk)


async def _use_dynamic(disk: BlockSource) -> None:
    for volume in assemble([("disk1", await read_ldm_disk(disk))]).volumes:
        if volume.mapping is not None:
            source = build_source(volume.mapping, {"disk1": disk})
            try:
                await source.read(0, min(4096, source.size))
            except FORGIVEN:
                continue


class _Opener:
    """Opens a damaged extent, by itself or through a descriptor; and "x", the parent of the child."""

    def __init__(self, disk: BlockSource, kind: str | None) -> None:
        self._disk = disk
        self._kind = kind
        self._opened = 0

    async def open(self, name: str, near: str | None) -> OpenedFile:
        self._opened += 1
        assert self._opened < 10_000, "a chain without an end"
        if name == "top" and self._kind is not None:
            text = descriptor([f'RW 65536 {self._kind} "extent"'])
            return OpenedFile("top", BytesReader(text.encode()))
        if name == "x":
            return OpenedFile("x", BytesReader(_parent()))
        return OpenedFile(f"{name}{self._opened % 20}", self._disk)


@cache
def _parent() -> bytes:
    with TemporaryDirectory(prefix="vmount-fuzz-") as folder:
        return images.vmdks(Path(folder))["sparse"]


async def _use_vmdk(disk: BlockSource) -> None:
    head = bytes(await disk.read(0, min(8, disk.size)))
    kind = "VMFSSPARSE" if head[:4] == b"COWD" else "SESPARSE" if is_sesparse(head) else None
    opened = await open_vmdk(_Opener(disk, kind), "top", force=True)
    for offset in (0, 65_536, opened.size // 2, max(0, opened.size - 4096)):
        try:
            length = min(70_000, opened.size - offset)
            opened.try_read(offset, length)
            assert len(await opened.read(offset, length)) == length
        except FORGIVEN:
            continue


_USES: Mapping[str, Use] = {
    "machine": _use_machine,
    "ext": lambda disk: _use_volume(open_ext, disk),
    "xfs": lambda disk: _use_volume(open_xfs, disk),
    "ntfs": lambda disk: _use_volume(open_ntfs, disk),
    "fat": lambda disk: _use_volume(open_fat, disk),
    "exfat": lambda disk: _use_volume(open_exfat, disk),
    "partitions": _use_partitions,
    "ldm": _use_dynamic,
    "vmdk": _use_vmdk,
    "vmfs": _use_datastore,
}


def _disks(name: str, folder: Path) -> list[bytes]:
    match name:
        case "machine":
            members = [next(iter(load(group).members.values())) for group in GROUPS]
            guests = [build_windows(folder / "windows")[0], build_linux(folder / "linux")]
            return [*members, *(path.read_bytes() for path in guests)]
        case "ext":
            plain = [images.ext(folder, kind, options) for kind, options in images.EXT.items()]
            paths = [*plain, images.ext_dirty(folder)]
        case "xfs":
            return [_mapped(path) for path in images.xfs(folder)]
        case "ntfs":
            paths = [images.ntfs(folder), images.wof(folder)[0]]
        case "fat":
            paths = [images.fat_volume(folder, bits) for bits in (12, 16, 32)]
        case "exfat":
            paths = [images.exfat_volume(folder)]
        case "partitions":
            paths = images.partitioned(folder)
        case "ldm":
            paths = images.dynamic(folder)
        case "vmfs":
            return [_mapped(path) for path in images.vmfs(folder, VMFS_ARCHIVE)]
        case _:
            made = images.vmdks(folder)
            return list(made.values())
    return [path.read_bytes() for path in paths]


def _mapped(path: Path) -> bytes:
    """Return a file's bytes without reading them all; it may be unlinked then."""
    with path.open("rb") as file:
        view: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return view  # type: ignore[no-any-return]


@cache
def _wof_streams() -> Mapping[str, list[bytes]]:
    with TemporaryDirectory(prefix="vmount-fuzz-") as folder:
        return images.wof(Path(folder))[1]


def _decoder_seeds(name: str) -> list[bytes]:
    match name:
        case "hive":
            key = Key("root")
            for number in range(20):
                key.set(rf"A\Key {number}", f"value {number}", SZ, bytes(number * 5))
            return [build_hive(key, Form(kind, leaf_size=7)) for kind in (b"lf", b"lh", b"li")]
        case "lvm-text":
            return [
                _lvm_text(group) for group in ("lvm-plain", "lvm-raids", "lvm-thin", "lvm-snap")
            ]
        case "md-superblock":
            member = next(iter(load("md-one12").members.values()))
            return [member[4096:8192]]
        case "gpt-entries":
            with TemporaryDirectory(prefix="vmount-fuzz-") as folder:
                return [images.partitioned(Path(folder))[1].read_bytes()[1024 : 1024 + 1024]]
        case "lzx" | "xpress":
            return [
                stream
                for form, streams in _wof_streams().items()
                if form.lower().startswith(name)
                for stream in _chunks(streams)
            ]
        case "texts":
            return [*_TEXTS]
        case "thin-node":
            return _nodes(b"".join(load("lvm-thin").members.values()))[:20]
        case "exfat-set":
            data = undamaged("exfat")[0].data
            sets = [at for at in range(0, len(data), 32) if data[at : at + 1] == b"\x85"]
            return [data[at : at + 32 * (data[at + 1] + 1)] for at in sets[:20]]
        case "ldm-record":
            return records(Group(3, ALL_KINDS))
        case "ntfs-structures":
            return _ntfs_structures()
        case "nbd-handshake":
            replies = [
                (8, 1, b""),
                (10, 4, struct.pack(">I", 7) + b"base:allocation"),
                (10, 1, b""),
            ]
            replies += [(7, 3, struct.pack(">HQH", 0, 1 << 30, 1)), (7, 1, b"")]
            return [b"NBDMAGICIHAVEOPT\0\3" + b"".join(starmap(_option_reply, replies))]
        case "nbd-wire":
            data = struct.pack(">IHHQIQ", 0x668E33EF, 1, 1, 1, 4104, 0) + bytes(4096)
            return [data, struct.pack(">IIQ", 0x67446698, 0, 1) + bytes(4096)]
    return [bytes(64), bytes(range(256))]


def _nodes(device: bytes) -> list[bytes]:
    """Return the B-tree nodes of a device: what has their checksum."""
    found = []
    for at in range(0, len(device) - BLOCK, BLOCK):
        block = device[at : at + BLOCK]
        if any(block) and int.from_bytes(block[:4], "little") == block_checksum(block, NODE_SALT):
            found.append(block)
    return found


def _option_reply(option: int, kind: int, data: bytes) -> bytes:
    return struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data


def _ntfs_structures() -> list[bytes]:
    """Return attributes, index nodes and restart pages with the letters that choose their decoders."""
    with TemporaryDirectory(prefix="vmount-fuzz-") as folder:
        data = images.ntfs(Path(folder)).read_bytes()
    found = [b"$" + data[at : at + 8192] for at in _places(data, b"RSTR", 1)]
    found += [b"n" + data[at + 24 : at + 4096] for at in _places(data, b"INDX", 4)]
    return found + [b"a" + data[at + 56 : at + 1024] for at in _places(data, b"FILE0", 60)]


def _places(data: bytes, magic: bytes, most: int) -> Iterator[int]:
    """Yield where structures begin, on sectors."""
    at = data.find(magic)
    while at >= 0 and most:
        if at % 512 == 0:
            yield at
            most -= 1
        at = data.find(magic, at + 1)


def _chunks(streams: list[bytes]) -> list[bytes]:
    """Return streams without the table of their chunks: of about one chunk each."""
    return [stream[at : at + 4000] for stream in streams for at in (0, 4, 12, 88)]


def _lvm_text(group: str) -> bytes:
    """Return the metadata that the kernel's tools wrote."""
    member = next(iter(load(group).members.values()))
    end = member.rindex(b"\n}\n", 0, 1 << 20) if b"\n}\n" in member[: 1 << 20] else 0
    return member[member.rindex(b"\0", 0, end) + 1 : end + 3]


_TEXTS = (
    b'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="vmfs"\n'
    b'RW 2048 VMFS "disk1-flat.vmdk"\nddb.adapterType = "lsilogic"\n',
    b'.encoding = "UTF-8"\nscsi0.present = "TRUE"\nscsi0:0.fileName = "a.vmdk"\n',
    b"UUID=5a3c2f10-9d1e-4b53-8a77-0c1de0f3e001 / ext4 defaults,subvol=@ 0 1\n/dev/sda1 /b\\040c vfat\n",
    b'NAME="Debian GNU/Linux"\nVERSION_ID="12"\n',
)
