"""Fix-ups: how NTFS notices that a record of several sectors was written in part only.

The last two bytes of every 512 bytes of a record hold its update sequence number; the bytes that belong
there are in the update sequence array. Records that lie side by side are checked and restored together
with strided slices: a dozen of operations for a thousand records.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "Fixup".
"""

from __future__ import annotations

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.errors import Damage

STRIDE = 512
"""Bytes between fix-ups, whatever the sector size of the disk."""

MULTI_SECTOR_HEADER = Layout(
    "multi-sector header",
    Field("magic", "4s", at=0x00),
    Field(
        "array_offset",
        "H",
        at=0x04,
        note="usa_ofs: of the update sequence array, from the start of the record",
    ),
    Field(
        "array_count", "H", at=0x06, note="usa_count: 16-bit words of the array: 1 and one a sector"
    ),
    size=8,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), Fixup; "
        "ntfs-3g layout.h NTFS_RECORD"
    ),
)

USUAL_OFFSETS = {b"FILE": (48, 42), b"INDX": (40,)}
"""Where Windows and ntfs-3g have the array, in each kind of record; 42 before Windows XP."""

_header = MULTI_SECTOR_HEADER.picker("magic", "array_offset", "array_count").unpack_from

_NO_NUMBERS = {b"\0\0", b"\xff\xff"}
"""No record has these for its number."""


def restore(record: bytearray, magic: bytes, where: int) -> bool:
    """Check one record's fix-ups and put the bytes back that they replaced; tell if its header is right.

    Where the header says a wrong place or size of the array, the usual ones are taken if all sectors agree
    with what is there. `where` is the record's offset in the volume, for the error. Raises Corrupt.
    """
    found, offset, count = _header(record)
    if found != magic:
        raise Corrupt(Damage.RECORD_SIGNATURE, where, expected=magic, actual=bytes(found))
    size = len(record)
    most = size // STRIDE + 1
    damage = None
    if count != most:
        damage = Corrupt(Damage.FIX_UP_COUNT, where, expected=most, actual=count)
    elif offset & 1 or offset < MULTI_SECTOR_HEADER.size or offset + 2 * count > STRIDE - 2:
        damage = Corrupt(Damage.FIX_UP_ARRAY_OFFSET, where, actual=offset)
    if damage is not None:
        usual = _usual_offset(record, magic)
        if usual is None:
            raise damage
        offset, count = usual, most
    number = record[offset : offset + 2]
    for index in range(1, count):
        end = index * STRIDE
        if record[end - 2 : end] != number:
            raise Corrupt(Damage.TORN_RECORD_FIX_UP, where + end - 2, expected=number.hex())
        start = offset + 2 * index
        record[end - 2 : end] = record[start : start + 2]
    return damage is None


def _usual_offset(record: bytearray, magic: bytes) -> int | None:
    """Return where the array must be if the header is wrong: the number there ends every sector."""
    ends = {bytes(record[end - 2 : end]) for end in range(STRIDE, len(record) + 1, STRIDE)}
    if len(ends) != 1 or ends & _NO_NUMBERS:
        return None
    (number,) = ends
    places = USUAL_OFFSETS.get(magic, ())
    return next((at for at in places if record[at : at + 2] == number), None)


def restore_all(records: bytearray, size: int, magic: bytes) -> bool:
    """Check and restore records of `size` bytes that lie side by side, all or none.

    Returns False, having changed nothing, where one of them differs in form from the first or is damaged:
    then each is a matter for `restore`.
    """
    total = len(records) // size
    _, offset, count = _header(records)
    if (
        count != size // STRIDE + 1
        or offset & 1
        or offset < MULTI_SECTOR_HEADER.size
        or offset + 2 * count > STRIDE - 2
    ):
        return False
    head = magic + records[4:8]
    if any(records[at::size] != head[at : at + 1] * total for at in range(8)):
        return False
    for byte in (0, 1):
        number = records[offset + byte :: size]
        for end in range(STRIDE, size + 1, STRIDE):
            if records[end - 2 + byte :: size] != number:
                return False
    for byte in (0, 1):
        for index in range(1, count):
            source = offset + 2 * index + byte
            records[index * STRIDE - 2 + byte :: size] = records[source::size]
    return True
