"""From an MFT record to what `stat` tells."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, NamedTuple

from parsers.errors import Corrupt
from parsers.model import Attrs
from parsers.ntfs.attribute import (
    DATA,
    FILE_NAME,
    I30,
    INDEX_ALLOCATION,
    STANDARD_INFORMATION,
)
from parsers.ntfs.file_name import DOS, FILE_NAME_KEY
from parsers.ntfs.standard_information import (
    FILETIME_EPOCH,
    REPARSE,
    SYSTEM,
    decode_standard,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parsers.ntfs.attribute import Attribute
    from parsers.ntfs.record import Record

DIRECTORY_MODE = stat.S_IFDIR | 0o755
FILE_MODE = stat.S_IFREG | 0o644
LINK_MODE = stat.S_IFLNK | 0o777

_NAMESPACE = FILE_NAME_KEY.offset("namespace")
_new = tuple.__new__


class Special(NamedTuple):
    """A file that is shown as something else than its record's flags say."""

    mode: int
    size: int
    rdev: int = 0


def may_be_special(record: Record) -> bool:
    """Tell whether more than the record must be looked at to know what kind of file it is."""
    bits = file_attributes(record)
    return bool(bits & REPARSE) or bool(bits & SYSTEM and not record.is_directory)


def file_attributes(record: Record) -> int:
    """Return the attribute bits of $STANDARD_INFORMATION, which every first record has.

    Raises Corrupt.
    """
    for attribute in record.attributes:
        if attribute.type == STANDARD_INFORMATION:
            return decode_standard(attribute.value)[4]
    raise Corrupt("file has no $STANDARD_INFORMATION", actual=record.ino)


def file_attrs(
    record: Record, attributes: Sequence[Attribute], special: Special | None = None
) -> Attrs:
    """Return a file's attributes, given its first record and the attributes of all its records.

    Links are counted as ntfs-3g does: a directory has one, names in the DOS namespace are none.
    The size of a directory is that of its index. Raises Corrupt.
    """
    standard = sizes = None
    directory = record.is_directory
    names = dos_names = 0
    for attribute in attributes:
        kind = attribute.type
        if kind == STANDARD_INFORMATION:
            standard = attribute.value
        elif kind == FILE_NAME:
            names += 1
            if names > 1 or record.links > 1:
                dos_names += attribute.value[_NAMESPACE : _NAMESPACE + 1] == _DOS
        elif kind == DATA:
            if not attribute.name and not directory and not attribute.lowest_vcn:
                sizes = attribute.sizes
        elif kind == INDEX_ALLOCATION and directory and attribute.name == I30:
            if not attribute.lowest_vcn:
                sizes = attribute.sizes
        elif kind > INDEX_ALLOCATION:
            break
    if standard is None:
        raise Corrupt("file has no $STANDARD_INFORMATION", actual=record.ino)
    created, modified, changed, accessed, _ = decode_standard(standard)
    size, _, allocated = sizes or (0, 0, 0)
    rdev = 0
    if special is not None:
        mode, size, rdev = special
    else:
        mode = DIRECTORY_MODE if directory else FILE_MODE
    attrs: Attrs = _new(
        Attrs,
        (
            record.ino,
            mode,
            1 if directory else max(1, record.links - dos_names),
            0,
            0,
            size,
            allocated,
            rdev,
            (accessed - FILETIME_EPOCH) * 100,
            (modified - FILETIME_EPOCH) * 100,
            (changed - FILETIME_EPOCH) * 100,
            (created - FILETIME_EPOCH) * 100,
        ),
    )
    return attrs


_DOS = bytes((DOS,))
