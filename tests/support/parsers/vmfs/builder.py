"""Adds to a LUN that ESXi wrote what it lacks: a second extent, and files in every way of addressing.

No program on Linux makes VMFS. Addresses and the places of resources are dissect.vmfs's, so that a
mistake of the parser is not made here again; allocation bitmaps, which no reader looks at, stay as
they are. What is built is shown to the readers that nobody here wrote as well.
"""

from __future__ import annotations

import itertools
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dissect.vmfs import VMFS, lvm
from dissect.vmfs.address import (
    FileBlockAddr,
    FileDescriptorAddr,
    LargeFileBlockAddr,
    PointerBlock2Addr,
    PointerBlock2Addr64,
    PointerBlockAddr,
    SmallFileBlockAddr,
    SubBlockAddr,
    SubBlockAddr64,
)

from vmount.parsers.vmfs.descriptor import DESCRIPTOR_METADATA, Addressing, Type
from vmount.parsers.vmfs.directory import BLOCK_HEADER_6, ENTRY_5, ENTRY_6, HEADER_6
from vmount.parsers.vmfs.lvm import DEVICE_HEADER, MAP_ENTRY, VOLUME_DESCRIPTOR

MIB = 1 << 20
BASE = 0x110_0000
"""Where a device's part of the volume begins."""
FIRST = 2048 * MIB
"""Bytes of the volume on the first device."""
EXTRA = 8192 * MIB
UNIT = 256 * MIB
HEADER = MIB
NAMES = 1024 * 512 - 32 * 256
ZEROED = object()
"""A block that is to be zeroed, with something else in it."""


class Builder:
    """A copy of a LUN, and a second device of 8 GiB that goes on where it ends."""

    def __init__(self, lun: Path, folder: Path) -> None:
        self.paths = [folder / "first.img", folder / "second.img"]
        subprocess.run(["cp", "--sparse=always", lun, self.paths[0]], check=True)
        self.paths[0].chmod(0o600)
        with self.paths[1].open("wb") as file:
            file.truncate(BASE + EXTRA)
        self._files = [path.open("r+b", buffering=0) for path in self.paths]
        self._grow()
        streams = [path.open("rb", buffering=0) for path in self.paths]
        self._known: Any = VMFS(lvm.LVM(list(streams)).volumes[0].open())
        self.vmfs6: bool = self._known.is_vmfs6
        self._blocks = itertools.count(3072 + 512)
        self._pointers = itertools.count()
        self._sub_blocks = itertools.count()
        per_cluster = 256 if self.vmfs6 else 200
        self._descriptors = (
            FileDescriptorAddr.make(cluster, number)
            for cluster in range(30, 62)
            for number in range(per_cluster)
        )
        self._template: bytes = bytes(self._known.get("small").raw)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def write(self, place: int, data: bytes) -> None:
        """Write at an offset in the volume."""
        device = int(place >= FIRST)
        self._files[device].seek(BASE + place - device * FIRST)
        self._files[device].write(data)

    def file(
        self, size: int, slots: Mapping[int, Any], addressing: Addressing, slot_size: int = MIB
    ) -> int:
        """Add a file and return its descriptor's address.

        `slots`: by the number of the slot, what is at the start of its block, ZEROED, or an address.
        """
        addresses = {slot: self._block(content) for slot, content in slots.items()}
        return self._descriptor(Type.FILE, size, addressing, addresses, slot_size)

    def in_sub_block(self, content: bytes) -> int:
        size = 65536 if self.vmfs6 else 8192
        address = self._sub_block()
        self.write(self._known.resources.SB.resolve_address(address), content)
        return self._descriptor(Type.FILE, len(content), Addressing.SUB_BLOCK, {0: address}, size)

    def copy(self, content: bytes) -> int:
        """Add a file with this content, in blocks that follow each other."""
        parts = [content[start : start + MIB] for start in range(0, len(content), MIB)]
        return self.file(len(content), dict(enumerate(parts)), Addressing.FILE_BLOCK)

    def large_block(self, number: int) -> int:
        """Return the address of a large file block; 4 and 5 are free."""
        address: int = LargeFileBlockAddr.make(number)
        return address

    def directory(self, entries: Sequence[tuple[str, int, Type]]) -> int:
        """Add a directory of files."""
        data = self._directory6(entries) if self.vmfs6 else self._directory5(entries)
        slots = {
            number: data[start : start + MIB]
            for number, start in enumerate(range(0, len(data), MIB))
        }
        addresses = {slot: self._block(content) for slot, content in slots.items()}
        return self._descriptor(Type.DIRECTORY, len(data), Addressing.FILE_BLOCK, addresses, MIB)

    def add_to_root(self, name: str, address: int) -> None:
        """Add a directory to the root directory."""
        root = self._known.root
        place, _ = root._resolve_offset(root.size if not self.vmfs6 else 0)
        metadata = root.lock_info.addr.offset + self._known._fd_meta_offset
        if not self.vmfs6:
            self.write(place, _entry5(name, address, Type.DIRECTORY))
            length = struct.pack("<Q", root.size + ENTRY_5.size)
            self.write(metadata + DESCRIPTOR_METADATA.offset("length"), length)
            return
        data = root.open().read()
        for block in range(65536, len(data), 4096):
            header = BLOCK_HEADER_6.parse(data, block)
            if header.type == 1 and header.free_slots:
                break
        slot = next(n for n in range(14) if header.free[n // 8] >> n % 8 & 1)
        free = bytearray(header.free)
        free[slot // 8] &= ~(1 << slot % 8)
        counts = struct.pack("<HH", header.slots, header.free_slots - 1)
        self._in_root(block + 4, counts + bytes(free))
        self._in_root(
            block + BLOCK_HEADER_6.size + slot * ENTRY_6.size,
            _entry6(name, address, Type.DIRECTORY),
        )
        self._in_root(4, struct.pack("<I", HEADER_6.parse(data).entries + 1))

    def _in_root(self, offset: int, data: bytes) -> None:
        self.write(self._known.root._resolve_offset(offset)[0], data)

    def _block(self, content: Any) -> int:
        if isinstance(content, int):
            return content
        number = next(self._blocks)
        self.write(number * MIB, b"stale" * 100 if content is ZEROED else content)
        if self.vmfs6:
            tbz = 0xFF if content is ZEROED else 0
            small: int = SmallFileBlockAddr.make(number // 512, number % 512, tbz=tbz)
            return small
        address: int = FileBlockAddr.make(number, tbz=int(content is ZEROED))
        return address

    def skip_blocks(self, count: int) -> None:
        """Leave a gap before the next block."""
        for _ in range(count):
            next(self._blocks)

    def _sub_block(self) -> int:
        number = next(self._sub_blocks)
        kind = SubBlockAddr64 if self.vmfs6 else SubBlockAddr
        address: int = kind.make(20 + number // 200, number % 200)
        return address

    def _pointer_block(self, second: bool, addresses: Sequence[int]) -> int:
        number = next(self._pointers)
        address: int
        if second:
            kind = PointerBlock2Addr64 if self.vmfs6 else PointerBlock2Addr
            address = kind.make(5 + number // 16 % 2, number % 16)
            place = self._known.resources.PB2.resolve_address(address)
        elif self.vmfs6:
            address = self._sub_block()
            place = self._known.resources.SB.resolve_address(address)
        else:
            address = PointerBlockAddr.make(2000 + number // 16, number % 16)
            place = self._known.resources.PB.resolve_address(address)
        self.write(place, struct.pack(f"<{len(addresses)}{self._code}", *addresses))
        return address

    @property
    def _code(self) -> str:
        return "Q" if self.vmfs6 else "I"

    def _pointed(self, addresses: Mapping[int, int], second: bool) -> dict[int, int]:
        """Put addresses into pointer blocks and return those of the pointer blocks."""
        each = 8192 if self.vmfs6 else 1024
        pages: dict[int, list[int]] = {}
        for slot, address in addresses.items():
            pages.setdefault(slot // each, [0] * each)[slot % each] = address
        return {number: self._pointer_block(second, page) for number, page in pages.items()}

    def _descriptor(
        self,
        kind: Type,
        size: int,
        addressing: Addressing,
        addresses: Mapping[int, int],
        slot_size: int,
    ) -> int:
        blocks = len(addresses)
        second = addressing is Addressing.POINTER_BLOCK_2
        levels = {Addressing.FILE_BLOCK: 0, Addressing.SUB_BLOCK: 0}.get(addressing, 1)
        for _ in range(levels + (addressing is Addressing.DOUBLE_POINTER_BLOCK)):
            addresses = self._pointed(addresses, second)
        count = 320 if self.vmfs6 else 256
        table = [addresses.get(slot, 0) for slot in range(count)]
        own: int = next(self._descriptors)
        place = self._known.resources.FD.resolve_address(own)
        metadata = self._known._fd_meta_offset
        raw = bytearray(self._template)
        struct.pack_into("<Q", raw, 4, place)
        fields = DESCRIPTOR_METADATA.parse(raw, metadata)
        values = {key: value for key, value in fields.items() if not key.startswith("_")} | {
            "address": own,
            "type": kind,
            "length": size,
            "block_size": slot_size,
            "blocks": blocks,
            "addressing": addressing,
            "mode": 0o40755 if kind is Type.DIRECTORY else 0o644,
            "block_shift": slot_size.bit_length() - 1,
            "links": 1 + (kind is Type.DIRECTORY),
        }
        built = DESCRIPTOR_METADATA.build(**values)
        raw[metadata : metadata + len(built)] = built
        packed = struct.pack(f"<{count}{self._code}", *table)
        start = len(raw) - len(packed)
        raw[start:] = packed
        self.write(place, bytes(raw))
        return own

    def _directory5(self, entries: Sequence[tuple[str, int, Type]]) -> bytes:
        dots = [(".", 4, Type.DIRECTORY), ("..", 4, Type.DIRECTORY)]
        return b"".join(_entry5(*entry) for entry in [*dots, *entries])

    def _directory6(self, entries: Sequence[tuple[str, int, Type]]) -> bytes:
        blocks = [entries[start : start + 14] for start in range(0, len(entries), 14)]
        header = HEADER_6.build(
            version=0xF50001,
            entries=len(entries) + 2,
            allocated=len(blocks) + 1,
            map_count=1,
            maps=[0] * 128,
        )
        head = header + _entry6(".", 4, Type.DIRECTORY) + _entry6("..", 4, Type.DIRECTORY)
        kinds = [3] + [1] * len(blocks)
        kinds += [0] * (len(kinds) % 2)
        nibbles = bytes(high << 4 | low for high, low in zip(kinds[::2], kinds[1::2], strict=True))
        parts = [head.ljust(65536, b"\0")]
        mapped = BLOCK_HEADER_6.build(version=1, type=3) + nibbles
        parts.append(mapped.ljust(4096, b"\0"))
        for block in blocks:
            free = ~((1 << len(block)) - 1) & (1 << 14) - 1
            built = BLOCK_HEADER_6.build(
                version=1,
                type=1,
                slots=14,
                free_slots=14 - len(block),
                free=free.to_bytes(56, "little"),
            )
            body = b"".join(_entry6(*entry) for entry in block)
            parts.append((built + body).ljust(4096, b"\0"))
        return b"".join(parts)

    def _grow(self) -> None:
        """Make the second device the volume's second extent."""
        first, second = self._files
        first.seek(HEADER)
        raw = bytearray(first.read(3 * MIB))
        header = dict(DEVICE_HEADER.parse(raw))
        aligned = header["major_version"] == 6
        alignment = header["alignment"] if aligned else 512
        volume = dict(VOLUME_DESCRIPTOR.parse(raw, alignment))
        volume |= {"logical_size": FIRST + EXTRA, "device_count": 2, "reserved": None}
        raw[alignment : alignment + VOLUME_DESCRIPTOR.size] = VOLUME_DESCRIPTOR.build(
            **_clean(volume)
        )
        name = alignment + NAMES + 256
        raw[name : name + 16] = b"naa.600000000001"
        first.seek(HEADER)
        first.write(raw)

        count = 1 if aligned else EXTRA // UNIT
        header |= {
            "uuid": bytes(range(16)),
            "size": BASE + EXTRA,
            "entry_count": count,
            "unit_count": EXTRA // UNIT if aligned else 0,
        }
        units = FIRST // UNIT
        volume |= {
            "entry_count": EXTRA // UNIT,
            "first_entry": units,
            "last_entry": units + EXTRA // UNIT - 1,
        }
        raw[: DEVICE_HEADER.size] = DEVICE_HEADER.build(**_clean(header))
        raw[alignment : alignment + VOLUME_DESCRIPTOR.size] = VOLUME_DESCRIPTOR.build(
            **_clean(volume)
        )
        bitmap = alignment + 1024 * 512
        table = bitmap + max(alignment, 1024)
        raw[bitmap:] = bytes(len(raw) - bitmap)
        length = EXTRA // count
        for number in range(count):
            entry = MAP_ENTRY.build(
                used=1,
                entry_id=number,
                volume_id=volume["volume_id"],
                physical_offset=BASE + number * length,
                logical_offset=FIRST + number * length,
                length=length,
                version=1,
            )
            raw[table + number * 128 : table + number * 128 + len(entry)] = entry
        second.seek(HEADER)
        second.write(raw)


def _entry5(name: str, address: int, kind: Type) -> bytes:
    return ENTRY_5.build(type=kind, address=address, generation=1, name=_padded(name, 128))


def _entry6(name: str, address: int, kind: Type) -> bytes:
    return ENTRY_6.build(type=kind, address=address, generation=1, name=_padded(name, 256))


def _padded(name: str, length: int) -> bytes:
    return name.encode().ljust(length, b"\0")


def _clean(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("_")}
