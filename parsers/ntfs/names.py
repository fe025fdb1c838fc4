"""Names: UTF-16 on the disk, WTF-8 above.

NTFS keeps a name as UTF-16 code units and does not care whether they are paired. WTF-8 is UTF-8 with a
lone surrogate encoded like any other code point, so every name has exactly one form in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

UPCASE_SIZE = 0x10000
"""Code units in $UpCase: one for each."""


def to_wtf8(units: bytes) -> bytes:
    """Return the bytes that a name in UTF-16LE goes by."""
    return units.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")


def from_wtf8(name: bytes) -> bytes | None:
    """Return the UTF-16LE that has this name, None if no name on an NTFS volume can be that."""
    try:
        units = name.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass")
    except UnicodeDecodeError:
        return None
    # A surrogate pair written as two code points is no WTF-8, and would be a second form of a name.
    return units if to_wtf8(units) == name else None


def collation_key(units: bytes, upcase: Sequence[int]) -> list[int]:
    """Return what names are ordered by in an index: their code units in upper case."""
    return [upcase[unit] for unit in memoryview(units).cast("H")]
