"""Where the bytes of a stream are, from the extents of its $DATA attribute.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$DATA".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.model import FileData, Inline, Packed, Runs
from vmount.parsers.ntfs.attribute import COMPRESSED_MASK, ENCRYPTED, LZNT1, SPARSE
from vmount.parsers.ntfs.compression import CompressionUnits
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.stream import decode_extents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot


def has_wrong_flags(attribute: Attribute) -> bool:
    """Tell whether an attribute in its record has flags that only damage can have set."""
    return not attribute.nonresident and bool(attribute.flags & ~(LZNT1 | SPARSE))


def file_data(extents: Sequence[Attribute], boot: Boot) -> FileData:
    """Return where the bytes of an attribute are, given all its extents in order.

    Raises Unsupported for what is stored in a way that is not known here, Corrupt.
    """
    first = extents[0]
    if first.flags & ENCRYPTED:
        raise Unsupported(
            "EFS encryption", remedy="only the user who encrypted the file has the key"
        )
    # Bytes in the record are as they are, whatever the flags say: Windows compresses clusters only.
    if first.nonresident and (unknown := first.flags & ~(LZNT1 | SPARSE)):
        name = "compression method" if unknown & COMPRESSED_MASK else "attribute flags"
        raise Unsupported(f"{name} {first.flags:#06x}")
    size, valid, _ = first.sizes
    if not first.nonresident:
        if len(extents) > 1:
            raise Corrupt(Damage.RESIDENT_ATTRIBUTE_HAS_SEVERAL_EXTENTS, actual=len(extents))
        return FileData(size, size, Inline(first.value))
    runs = decode_extents(extents, boot)
    if first.flags & LZNT1:
        units = CompressionUnits(runs, size, valid, boot.cluster_size, first.compression_unit)
        return FileData(size, valid, Packed(units))
    return FileData(size, valid, Runs(runs.cut(size)))
