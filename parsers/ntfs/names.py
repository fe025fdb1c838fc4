"""Names: UTF-16LE on the disk, WTF-8 above; and their order in an index.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$UpCase"; WTF-8 as Simon Sapin
specifies it.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmount.parsers import wtf8

UPCASE_SIZE = 0x10000
"""Code units in $UpCase: one for each."""


def to_wtf8(units: bytes) -> bytes:
    """Return the bytes that a name in UTF-16LE goes by."""
    return units.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")


def from_wtf8(name: bytes) -> bytes | None:
    """Return the UTF-16LE that has this name, None if no name on an NTFS volume can be that."""
    text = wtf8.from_wtf8(name)
    return None if text is None else text.encode("utf-16-le", "surrogatepass")


def collation_key(units: bytes, upcase: Sequence[int]) -> list[int]:
    """Return what names are ordered by in an index: their code units in upper case."""
    return [upcase[unit] for unit in memoryview(units).cast("H")]
