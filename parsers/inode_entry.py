"""Names in the directories of Unix file systems, and the types of files that stand beside them."""

from __future__ import annotations

import stat
from typing import NamedTuple

KINDS = {
    1: stat.S_IFREG,
    2: stat.S_IFDIR,
    3: stat.S_IFCHR,
    4: stat.S_IFBLK,
    5: stat.S_IFIFO,
    6: stat.S_IFSOCK,
    7: stat.S_IFLNK,
}
"""Type bits of st_mode by an entry's file_type."""


class InodeEntry(NamedTuple):
    """A name in a directory."""

    name: bytes
    ino: int
    file_type: int
    """A key of KINDS, or 0."""
