"""Inodes in the log: the core in the order of bytes of the machine, the forks as on the volume.

Source: "XFS Algorithms & Data Structures", "Journaling Log" (Inode Log Item, Inode Core).
"""

from __future__ import annotations

import re
import struct

from vmount.parsers.errors import Corrupt
from vmount.parsers.xfs.errors import Damage
from vmount.parsers.xfs.inode import CORE_SIZE, INODE
from vmount.parsers.xfs.log_item import ATTR_FORK, DATA_FORK, InodeField, InodeItem

_UNSWAPPED = frozenset(("uuid", "padding"))
_TIMES = frozenset(("atime", "mtime", "ctime", "crtime"))
_FLAG2_BIGTIME = 0x8
_VERSION_AT = INODE.offset("version")
_FLAGS2_AT = INODE.offset("flags2")
_FORK_AT = INODE.offset("fork_offset")
_KEPT = ("next_unlinked", 4)
_FLUSHES_AT = 30
"""Of versions 1 and 2: how often the inode was written, 16 bits that wrap around."""
_ROOT_HEADER = {False: 24, True: 72}
_WIDTHS = {"B": 1, "H": 2, "I": 4, "Q": 8}


def _fields(size: int, *, halves: bool) -> tuple[tuple[int, int], ...]:
    """Return the offset and the width of each number of a core of `size` bytes.

    With `halves`, times are two numbers each.
    """
    found: list[tuple[int, int]] = []
    for field in INODE.fields:
        at = INODE.offset(field.name)
        if at >= size or field.name in _UNSWAPPED:
            continue
        width = _WIDTHS[re.sub(r"\d", "", field.format)]
        if field.name == "large_extents" and size < INODE.size:
            at, width = _FLUSHES_AT, 2
        if field.name in _TIMES and halves:
            found += [(at, 4), (at + 4, 4)]
        else:
            found.append((at, width))
    return tuple(found)


def apply_inode(inode: bytes, item: InodeItem, *, version_5: bool) -> bytes:
    """Return an inode with the changes of an item. Raises Corrupt."""
    if not item.regions:
        raise Corrupt(Damage.LOG_INODE_HAS_NO_CORE, of=item.number)
    core = item.regions[0]
    version = core[_VERSION_AT] if len(core) > _VERSION_AT else 0
    size = CORE_SIZE.get(version, 0)
    if (version == 3) != version_5 or not size or len(core) < size - 4:
        raise Corrupt(Damage.LOG_CORE_OF_INODE, of=item.number)
    if not version_5 and _older(core, inode):
        return inode
    result = bytearray(inode)
    result[:size] = _converted(core, size, inode)
    fork_at = result[_FORK_AT] * 8
    space = len(inode) - size
    if fork_at > space:
        raise Corrupt(Damage.LOG_START_OF_ATTRIBUTES_OF_INODE, of=item.number)
    data_end = size + (fork_at or space)
    rest = item.regions[1:]
    if item.fields & InodeField.DEVICE:
        result[size : size + 4] = struct.pack(">I", item.device)
    if item.fields & DATA_FORK:
        _put(result, size, data_end, rest, item, InodeField.ROOT, version_5=version_5)
    if item.fields & ATTR_FORK:
        if not fork_at:
            raise Corrupt(Damage.LOG_ATTRIBUTES_OF_INODE_WITHOUT_PLACE, of=item.number)
        _put(result, data_end, len(inode), rest, item, InodeField.ATTR_ROOT, version_5=version_5)
    return bytes(result)


def _converted(core: bytes, size: int, inode: bytes) -> bytes:
    """Return a core in the order of bytes of the volume."""
    bigtime = size > _FLAGS2_AT and bool(
        int.from_bytes(core[_FLAGS2_AT : _FLAGS2_AT + 8], "little") & _FLAG2_BIGTIME
    )
    result = bytearray(core[:size].ljust(size, b"\0"))
    for at, width in _FIELDS[size, not bigtime]:
        result[at : at + width] = result[at : at + width][::-1]
    # The list of files to be removed is not kept by this item.
    at = INODE.offset(_KEPT[0])
    result[at : at + _KEPT[1]] = inode[at : at + _KEPT[1]]
    return bytes(result)


_FIELDS = {
    (size, halves): _fields(size, halves=halves)
    for size in set(CORE_SIZE.values())
    for halves in (False, True)
}


def _older(core: bytes, inode: bytes) -> bool:
    """Tell whether the volume has an inode of version 1 or 2 newer than the log."""
    logged = int.from_bytes(core[_FLUSHES_AT : _FLUSHES_AT + 2], "little")
    known = int.from_bytes(inode[_FLUSHES_AT : _FLUSHES_AT + 2], "big")
    wrapped = known == 0xFFFF and logged < 0x7FFF
    return known > logged and not wrapped


def _put(
    inode: bytearray,
    start: int,
    end: int,
    rest: list[bytes],
    item: InodeItem,
    root: InodeField,
    *,
    version_5: bool,
) -> None:
    """Put the next logged fork between `start` and `end`."""
    if not rest:
        raise Corrupt(Damage.LOG_INODE_LACKS_FORK, of=item.number)
    fork = rest.pop(0)
    if item.fields & root:
        fork = _root(fork, end - start, version_5=version_5)
    if len(fork) > end - start:
        raise Corrupt(
            Damage.LOG_FORK_OF_INODE, of=item.number, expected=end - start, actual=len(fork)
        )
    inode[start : start + len(fork)] = fork


def _root(block: bytes, space: int, *, version_5: bool) -> bytes:
    """Return the root of a B+tree as an inode has it, of the form that it has in memory: with the header of a
    block, and block numbers after the keys that this form has room for."""
    header = _ROOT_HEADER[version_5]
    if len(block) < header + 16:
        raise Corrupt(Damage.LOG_ROOT_OF_BTREE_CUT_OFF)
    level, count = struct.unpack_from(">HH", block, 4)
    room, fitting = (len(block) - header) // 16, (space - 4) // 16
    if count > min(room, fitting):
        raise Corrupt(Damage.LOG_ROOT_OF_BTREE, expected=f"at most {fitting}", actual=count)
    keys = block[header : header + count * 8]
    blocks = block[header + room * 8 : header + room * 8 + count * 8]
    result = bytearray(space)
    result[:4] = struct.pack(">HH", level, count)
    result[4 : 4 + len(keys)] = keys
    at = 4 + fitting * 8
    result[at : at + len(blocks)] = blocks
    return bytes(result)
