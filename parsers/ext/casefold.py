"""Names in case-insensitive directories: what is the same name there.

Two are the same if they are canonically equivalent after their code points have been case-folded, ignorable
ones left out. Python's Unicode is newer than ext4's 12.1: letters that were added since are folded too.
Sources: Linux kernel documentation, filesystems/ext4, "Case-insensitive file name lookups"; The Unicode
Standard, 3.13 "Default Case Algorithms" and 5.21 "Ignoring Characters in Processing".
"""

from __future__ import annotations

import re
from unicodedata import normalize

UTF8_12_1 = 1
"""The one encoding that there is."""

_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point."""


def fold(name: bytes) -> bytes:
    """Return a form that is the same for all spellings of a name: of one that is not UTF-8, the name itself."""
    if name.isascii():
        return name.lower()
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return name
    # Each code point by itself, as Linux has it, and not after a first decomposition, as Unicode has it.
    return _IGNORABLE.sub("", normalize("NFD", text.casefold())).encode()
