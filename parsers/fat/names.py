"""Short names, in a code page on the disk; and which names are the same."""

from __future__ import annotations

from functools import lru_cache

DEFAULT_CODE_PAGE = "cp437"
"""What mkfs.fat, mtools and Linux take short names to be in."""

KANJI_E5 = 0x05
"""Stands for a first byte of 0xE5, which would mean that the entry is deleted."""
LOWER_BASE = 0x08
LOWER_EXTENSION = 0x10


def short_name(raw: bytes, flags: int, code_page: str) -> str:
    """Return the name that the eleven bytes `raw` of a short entry make.

    `flags` are those of Windows NT (`LOWER_BASE`, `LOWER_EXTENSION`), which spare a name like "readme.TXT" a
    long entry. A byte that the code page has no character for becomes a lone surrogate.
    """
    if raw[0] == KANJI_E5:
        raw = b"\xe5" + raw[1:]
    base = raw[:8].rstrip(b" ").decode(code_page, "surrogateescape")
    extension = raw[8:].rstrip(b" ").decode(code_page, "surrogateescape")
    if flags & LOWER_BASE:
        base = lower(base)
    if flags & LOWER_EXTENSION:
        extension = lower(extension)
    return f"{base}.{extension}" if extension else base


def lower(name: str) -> str:
    """Return a name in lower case, character by character."""
    if name.isascii():
        return name.lower()
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in name)


@lru_cache(1024)
def _upper(character: str) -> str:
    upper = character.upper()
    # What becomes longer, or leaves the Basic Multilingual Plane alone, has no upper case in UTF-16.
    return upper if len(upper) == 1 and ord(character) < 0x10000 else character


def fold(name: str) -> str:
    """Return what names are compared by: in upper case, character by character."""
    return name.upper() if name.isascii() else "".join(map(_upper, name))


def short_checksum(raw: bytes) -> int:
    """Return the checksum of a short name that its long entries carry."""
    total = 0
    for byte in raw:
        total = ((total << 7 | total >> 1) + byte) & 0xFF
    return total
