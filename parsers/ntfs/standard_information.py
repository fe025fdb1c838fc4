"""$STANDARD_INFORMATION: a file's times and attribute bits.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$STANDARD_INFORMATION".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.ntfs.attribute import STANDARD_INFORMATION
from vmount.parsers.ntfs.errors import Damage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.ntfs.attribute import Attribute

STANDARD = Layout(
    "$STANDARD_INFORMATION",
    Field(
        "created",
        "q",
        at=0x00,
        note="FILETIME ([MS-DTYP] 2.3.3): 100 ns since 1601, as the other times",
    ),
    Field("modified", "q", at=0x08, note="last_data_change_time"),
    Field("changed", "q", at=0x10, note="last_mft_change_time: of the MFT record"),
    Field("accessed", "q", at=0x18, note="last_access_time"),
    Field("file_attributes", "I", at=0x20, note="FILE_ATTRIBUTE_... ([MS-FSCC] 2.6)"),
    size=36,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $STANDARD_INFORMATION; "
        "ntfs-3g layout.h STANDARD_INFORMATION"
    ),
)

STANDARD_3 = Layout(
    "$STANDARD_INFORMATION of NTFS 3",
    *STANDARD.fields,
    Field("maximum_versions", "I", at=0x24),
    Field("version", "I", at=0x28, note="version_number"),
    Field("class_id", "I", at=0x2C),
    Field("owner_id", "I", at=0x30, note="key of $Quota's $Q; 0: no quotas"),
    Field("security_id", "I", at=0x34, note="key of $Secure's $SII"),
    Field("quota_charged", "Q", at=0x38, note="bytes"),
    Field("usn", "Q", at=0x40, note="offset in $UsnJrnl of the last record about the file"),
    size=72,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $STANDARD_INFORMATION; "
        "ntfs-3g layout.h STANDARD_INFORMATION"
    ),
)

HIDDEN = 0x2
SYSTEM = 0x4
SPARSE = 0x200
REPARSE = 0x400
OFFLINE = 0x1000
RECALL_ON_OPEN = 0x40000
RECALL_ON_DATA_ACCESS = 0x400000

FILETIME_EPOCH = 116_444_736_000_000_000
"""1970-01-01 in FILETIME: units of 100 ns since 1601-01-01."""

_fields = STANDARD.picker(
    "created", "modified", "changed", "accessed", "file_attributes"
).unpack_from
_security_id = STANDARD_3.picker("security_id").unpack_from


def decode_standard(value: bytes) -> tuple[int, int, int, int, int]:
    """Return times of creation, last write, last change of the MFT record and last access, then the bits.

    Times are FILETIMEs, signed. Raises Corrupt.
    """
    if len(value) < STANDARD.size:
        raise Corrupt(Damage.STANDARD_INFORMATION_IS_TOO_SHORT, actual=len(value))
    fields: tuple[int, int, int, int, int] = _fields(value)
    return fields


def decode_standard_of(attributes: Sequence[Attribute]) -> tuple[int, int, int, int, int]:
    """Return the same of a file, which has it in its first record. Raises Corrupt."""
    for attribute in attributes:
        if attribute.type == STANDARD_INFORMATION:
            return decode_standard(attribute.value)
    raise Corrupt(Damage.FILE_HAS_NO_STANDARD_INFORMATION)


def security_id_of(attributes: Sequence[Attribute]) -> int:
    """Return the number of a file's security descriptor in $Secure, 0 if it is not there. Raises Corrupt."""
    for attribute in attributes:
        if attribute.type == STANDARD_INFORMATION:
            value = attribute.value
            if len(value) < STANDARD_3.size:
                return 0
            number: int = _security_id(value)[0]
            return number
    raise Corrupt(Damage.FILE_HAS_NO_STANDARD_INFORMATION)
