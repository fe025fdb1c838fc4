"""Directories: a list of records in VMFS-5; blocks behind a hash table in VMFS-6.

VMFS-6 begins a directory with a header of 64 KiB, most of it a hash table of names. Metadata blocks
follow: entries, links for names of one hash, and maps that tell four bits of each block. A listing needs
the maps and the blocks of entries only, and the header says how many entries there must be.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_vmfs.py, FS3_DirEntry and
FS6_DirEntry); blocks and maps of VMFS-6 as vmfs6-tools reads them.
"""

from __future__ import annotations

from typing import NamedTuple

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.vmfs.errors import Damage

MAX_DIRECTORY = 256 << 20
"""Bytes: some 900,000 entries of VMFS-6; VMware tells of 130,690 files in a datastore."""

ENTRY_5 = Layout(
    "VMFS-5 directory entry",
    Field("type", "I", at=0x00, note="as in the file's descriptor"),
    Field("address", "I", at=0x04, note="of the file's descriptor; 0: the entry is free"),
    Field("generation", "I", at=0x08, note="of the descriptor"),
    Field("name", "128s", at=0x0C, note="ends at a zero byte"),
    size=140,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_vmfs.py FS3_DirEntry",
)

ENTRY_6 = Layout(
    "VMFS-6 directory entry",
    Field("type", "I", at=0x00, note="as in the file's descriptor"),
    Field("address", "I", at=0x04, note="of the file's descriptor; 0: the entry is free"),
    Field("generation", "I", at=0x08, note="of the descriptor"),
    Field(
        "hash_index",
        "H",
        at=0x0C,
        note="lower half of hash in dissect.vmfs; the halves are a guess",
    ),
    Field("link_hash", "H", at=0x0E, note="upper half of hash; a guess"),
    Field("offset", "Q", at=0x10, note="of the entry in the directory; unconfirmed"),
    Field("name", "256s", at=0x18, note="ends at a zero byte"),
    Field("unknown", "8s", at=0x118, note="meaning unconfirmed"),
    size=288,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_vmfs.py FS6_DirEntry",
)

HEADER_6 = Layout(
    "VMFS-6 directory header",
    Field("version", "I", at=0x00, note="0xF50001 or 0xFDC001"),
    Field("entries", "I", at=0x04, note="numEntries: with this directory's own and its parent's"),
    Field("allocated", "I", at=0x08, note="numAllocated"),
    Field(
        "map_count", "I", at=0x0C, note="unknown in dissect.vmfs; a guess that the corpus confirms"
    ),
    Field(
        "maps",
        "128I",
        at=0x10,
        note="numbers of the blocks that are maps; a guess that the corpus confirms",
    ),
    Field("unknown", "408s", at=0x210, note="meaning unconfirmed"),
    Field("checksum", "Q", at=0x3A8, note="unconfirmed, as is checksum_generation"),
    Field("checksum_generation", "Q", at=0x3B0),
    size=952,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_vmfs.py FS6_DirHeader",
)

BLOCK_HEADER_6 = Layout(
    "VMFS-6 directory block header",
    Field("version", "H", at=0x00, note="meaning unconfirmed"),
    Field("type", "H", at=0x02, note="1: entries"),
    Field("slots", "H", at=0x04, note="entries that there is room for"),
    Field("free_slots", "H", at=0x06),
    Field("free", "56s", at=0x08, note="a bit set for each slot that is free"),
    size=64,
    source="reverse engineered: vmfs6-tools; volumes that ESXi wrote",
)

HEADER_SIZE = 64 << 10
VERSIONS = (0xF50001, 0xFDC001)
BLOCK_ENTRIES = 1
_MAPS = 128
_ENTRY_5 = ENTRY_5.whole()
_ENTRY_6 = ENTRY_6.picker("type", "address", "name")
_SELF_AND_PARENT = HEADER_6.size
_DOTS = (b".", b"..")


class DescriptorEntry(NamedTuple):
    """A name in a directory."""

    name: bytes
    address: int
    type: int
    """As in the file's descriptor."""


def decode_directory_5(data: Buffer) -> list[DescriptorEntry]:
    """Return the entries of a VMFS-5 directory, "." and ".." left out.

    Raises Corrupt for an impossible name or a directory that ends within an entry.
    """
    if len(data) % ENTRY_5.size:
        raise Corrupt(
            Damage.DIRECTORY_LENGTH, expected=f"multiple of {ENTRY_5.size}", actual=len(data)
        )
    entries = []
    for position, (kind, address, _, name) in enumerate(_ENTRY_5.iter_unpack(data)):
        if address:
            name = _name(name, position * ENTRY_5.size)
            if name not in _DOTS:
                entries.append(DescriptorEntry(name, address, kind))
    return entries


def decode_directory_6(data: Buffer, block_size: int) -> list[DescriptorEntry]:
    """Return the entries of a VMFS-6 directory, "." and ".." left out.

    `block_size`: the volume's metadata alignment. Raises Unsupported for another version, Corrupt if not
    as many entries are found as the header tells of.
    """
    view = memoryview(data)
    if len(view) < HEADER_SIZE:
        raise Corrupt(Damage.DIRECTORY_WITHOUT_HEADER, expected=HEADER_SIZE, actual=len(view))
    header = HEADER_6.parse(view)
    if header.version not in VERSIONS:
        raise Unsupported(f"VMFS directory version {header.version:#x}")
    if header.map_count > _MAPS:
        raise Corrupt(Damage.DIRECTORY_MAPS, 12, expected=_MAPS, actual=header.map_count)
    left = header.entries
    for index in range(2):
        _, address, _ = _ENTRY_6.unpack_from(view, _SELF_AND_PARENT + index * ENTRY_6.size)
        left -= bool(address)

    entries: list[DescriptorEntry] = []
    for block in _entry_blocks(view, header.maps[: header.map_count], block_size):
        entries += _block_entries(view, HEADER_SIZE + block * block_size, block_size)
    if len(entries) != left:
        raise Corrupt(Damage.DIRECTORY_ENTRIES, 4, expected=left, actual=len(entries))
    return entries


def _entry_blocks(view: memoryview, maps: list[int], block_size: int) -> list[int]:
    """Return the numbers of the blocks that have entries, from the maps: four bits a block."""
    blocks = []
    count = (len(view) - HEADER_SIZE) // block_size
    number = 0
    for place in maps:
        start = HEADER_SIZE + place * block_size
        if place >= count:
            raise Corrupt(Damage.DIRECTORY_MAP_OUTSIDE_OF_IT, start, actual=place)
        for byte in view[start + BLOCK_HEADER_6.size : start + block_size]:
            for bits in (byte >> 4, byte & 0xF):
                if bits & 0x3 == BLOCK_ENTRIES and number < count:
                    blocks.append(number)
                number += 1
    return blocks


def _block_entries(view: memoryview, start: int, block_size: int) -> list[DescriptorEntry]:
    """Return the entries of a block. A bit of its bitmap is set where a slot is free."""
    header = BLOCK_HEADER_6.parse(view, start)
    first = start + BLOCK_HEADER_6.size
    room = min((block_size - BLOCK_HEADER_6.size) // ENTRY_6.size, len(header.free) * 8)
    if header.type != BLOCK_ENTRIES or header.slots > room:
        raise Corrupt(Damage.DIRECTORY_BLOCK, start, expected="entries", actual=header.type)
    entries = []
    for slot in range(header.slots):
        if not header.free[slot >> 3] >> (slot & 7) & 1:
            where = first + slot * ENTRY_6.size
            kind, address, name = _ENTRY_6.unpack_from(view, where)
            entries.append(DescriptorEntry(_name(name, where), address, kind))
    return entries


def _name(field: bytes, where: int) -> bytes:
    name = field.partition(b"\0")[0]
    if not name or b"/" in name:
        raise Corrupt(Damage.NAME, where, actual=repr(name))
    return name
