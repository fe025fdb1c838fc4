"""Names in UTF-16 as bytes: WTF-8.

NTFS, FAT and exFAT keep names as UTF-16 code units and do not care whether surrogates are paired. WTF-8 is
UTF-8 with a lone surrogate encoded like any other code point, so every name has exactly one form in bytes.
"""

from __future__ import annotations


def to_wtf8(name: str) -> bytes:
    """Return the bytes that a name goes by."""
    return name.encode("utf-8", "surrogatepass")


def from_wtf8(name: bytes) -> str | None:
    """Return a name as str, None if no name in UTF-16 can be that."""
    try:
        text = name.decode("utf-8", "surrogatepass")
        # A surrogate pair written as two code points is no WTF-8, and would be a second form of a name.
        return text if from_utf16(text.encode("utf-16-le", "surrogatepass")) == text else None
    except UnicodeDecodeError:
        return None


def from_utf16(units: bytes) -> str:
    """Return UTF-16LE as str; surrogates that are not paired stay what they are."""
    return units.decode("utf-16-le", "surrogatepass")
