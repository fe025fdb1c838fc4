"""Files kept in their inode: the 60 bytes of the block map, then the attribute "system.data".

Source: Linux kernel documentation, filesystems/ext4, "Inline Data".
"""

from __future__ import annotations

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.inode import Inode
from vmount.parsers.ext.xattr import SYSTEM, decode_inode_attributes

_PARENT_SIZE = 4
"""A directory starts with the inode number of its parent, in place of the entries "." and ".."."""


def inline_file(inode: Inode) -> bytes:
    """Return the bytes of a file or of a symbolic link. Raises Corrupt if some are missing."""
    size = inode.attrs.size
    data = inode.block + _continuation(inode)
    if size > len(data):
        raise Corrupt(
            Damage.INODE_INLINE_DATA, inode.where, of=inode.number, expected=size, actual=len(data)
        )
    return data[:size]


def inline_directory(inode: Inode) -> list[bytes]:
    """Return the pieces of a directory, each a chain of entries. Raises Corrupt."""
    return [inode.block[_PARENT_SIZE:], _continuation(inode)]


def _continuation(inode: Inode) -> bytes:
    """Return what follows the 60 bytes; the attribute is there even if it is empty."""
    for attribute in decode_inode_attributes(inode.extra, inode.where):
        if attribute.name_index == SYSTEM and attribute.name == b"data":
            return attribute.value
    raise Corrupt(Damage.INODE_INLINE_DATA_HAS_NO_CONTINUATION, inode.where, of=inode.number)
