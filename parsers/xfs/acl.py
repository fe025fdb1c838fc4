"""POSIX access control lists: from XFS's form to that of the system calls.

Source: "XFS Algorithms & Data Structures", "Extended Attributes" (SGI_ACL_FILE);
include/uapi/linux/posix_acl_xattr.h for the form that getxattr gives.
"""

from __future__ import annotations

import struct

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.xfs.errors import Damage

NAMES = {
    b"SGI_ACL_FILE": b"system.posix_acl_access",
    b"SGI_ACL_DEFAULT": b"system.posix_acl_default",
}
"""Names of the attributes, which are in the root's namespace, as the system shows them."""

_SYSTEM_VERSION = 2
_NAMED_USER, _NAMED_GROUP = 0x02, 0x08
_TAGS = frozenset((0x01, _NAMED_USER, 0x04, _NAMED_GROUP, 0x10, 0x20))
_NO_ID = 0xFFFFFFFF
ENTRY = Layout(
    "XFS access control list entry",
    Field("tag", "I", at=0x00, note="ae_tag: as in the system's form"),
    Field("id", "I", at=0x04, note="ae_id: of the user or group"),
    Field("permissions", "H", at=0x08, note="ae_perm"),
    Field("padding", "2x", at=0x0A),
    byte_order=">",
    size=12,
    source="Linux fs/xfs/libxfs/xfs_format.h struct xfs_acl_entry",
)
_ENTRY = ENTRY.whole()


def system_acl(value: bytes) -> bytes:
    """Return the value that getxattr gives for an ACL stored as `value`. Raises Corrupt."""
    (count,) = struct.unpack_from(">I", value) if len(value) >= 4 else (0,)
    # An old kernel wrote room for 25 entries whatever their number.
    if len(value) < 4 + count * _ENTRY.size:
        raise Corrupt(Damage.ACCESS_CONTROL_LIST_CUT_OFF, actual=f"{len(value)} bytes")
    result = struct.pack("<I", _SYSTEM_VERSION)
    for index in range(count):
        tag, number, permissions = _ENTRY.unpack_from(value, 4 + index * _ENTRY.size)
        if tag not in _TAGS:
            raise Corrupt(Damage.ACCESS_CONTROL_LIST_KIND_OF_ENTRY, actual=tag)
        if tag not in (_NAMED_USER, _NAMED_GROUP):
            number = _NO_ID
        result += struct.pack("<HHI", tag, permissions, number)
    return result
