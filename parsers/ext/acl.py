"""POSIX access control lists: from ext4's form to that of the system calls.

Source: Linux kernel documentation, filesystems/ext4, "POSIX ACLs"; include/uapi/linux/posix_acl_xattr.h for
the form that getxattr gives.
"""

from __future__ import annotations

import struct

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.errors import Damage

_DISK_VERSION = 1
_SYSTEM_VERSION = 2
_NAMED_USER, _NAMED_GROUP = 0x02, 0x08
_TAGS = frozenset((0x01, _NAMED_USER, 0x04, _NAMED_GROUP, 0x10, 0x20))
_NO_ID = 0xFFFFFFFF


def system_acl(value: bytes) -> bytes:
    """Return the value that getxattr gives for an ACL stored as `value`. Raises Corrupt."""
    if len(value) < 4 or struct.unpack_from("<I", value)[0] != _DISK_VERSION:
        raise Corrupt(Damage.ACCESS_CONTROL_LIST_VERSION, actual=value[:4].hex())
    result = struct.pack("<I", _SYSTEM_VERSION)
    position = 4
    while position < len(value):
        tag, permissions, number = None, 0, _NO_ID
        if position + 4 <= len(value):
            tag, permissions = struct.unpack_from("<HH", value, position)
            position += 4
        if tag in (_NAMED_USER, _NAMED_GROUP):
            if position + 4 > len(value):
                raise Corrupt(Damage.ACCESS_CONTROL_LIST_CUT_OFF)
            (number,) = struct.unpack_from("<I", value, position)
            position += 4
        if tag not in _TAGS:
            raise Corrupt(Damage.ACCESS_CONTROL_LIST_KIND_OF_ENTRY, actual=tag)
        result += struct.pack("<HHI", tag, permissions, number)
    return result
