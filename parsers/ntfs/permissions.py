"""From a security descriptor to permission bits.

Windows' lists say more than nine bits can. These are what the owner, the group and everybody may do by the
entries that name them, whatever their order: what is denied is denied. What others were given by name is
not in them, and neither is what a user may do through groups that he is in.

ntfs-3g keeps modes in such lists (a list that it wrote comes out as the mode that it was written for): set-ID
and sticky bits are in an entry for nobody (S-1-0-0), and where owner and group are one and the same, the
owner's entry is the one with the right to take ownership.

Source: [MS-DTYP] 2.4 and 2.5.3 (access check); the forms of lists that ntfs-3g writes are its secaudit's
and security.c's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.ntfs.security_descriptor import Sid

if TYPE_CHECKING:
    from vmount.parsers.ntfs.security_descriptor import Descriptor

READ_DATA = 0x1
WRITE_DATA = 0x2
APPEND_DATA = 0x4
EXECUTE = 0x20
WRITE_OWNER = 0x80000
GENERIC_ALL = 0x10000000

NOBODY = Sid(0, (0,))
EVERYBODY = frozenset({Sid(1, (0,)), Sid(5, (11,)), Sid(5, (32, 545))})
"""Everyone, Authenticated Users and Users, which all of these are in."""

_RIGHTS = (
    (0o4, READ_DATA | GENERIC_ALL | 0x80000000),
    (0o2, WRITE_DATA | APPEND_DATA | GENERIC_ALL | 0x40000000),
    (0o1, EXECUTE | GENERIC_ALL | 0x20000000),
)
_SPECIAL = ((0o4000, APPEND_DATA), (0o2000, WRITE_DATA), (0o1000, READ_DATA))


def mode_of(descriptor: Descriptor) -> int:
    """Return the permission bits that a descriptor comes to."""
    owner, group, entries = descriptor
    if entries is None:
        return 0o777
    by_owner: int | None = None
    by_group: int | None = None
    by_all = special = 0
    no_owner = no_group = no_all = 0
    is_denied = False
    for allows, mask, sid in entries:
        whole = bool(mask & (WRITE_OWNER | GENERIC_ALL))
        bits = _bits(mask)
        if sid == owner and (whole or not allows):
            if not allows:
                no_owner |= bits
                is_denied = True
            elif by_owner is None:
                by_owner = bits
        elif sid == group:
            if not allows:
                no_group |= bits
            elif not whole:
                by_group = (by_group or 0) | bits
        elif sid in EVERYBODY:
            if allows:
                by_all |= bits
            else:
                no_all |= bits
        elif sid == NOBODY and allows:
            special |= sum(bit for bit, right in _SPECIAL if mask & right)
    if by_owner is None:
        by_owner = 0 if is_denied else 0o7
    if by_group is None:
        by_group = by_all
    return (
        special
        | (by_owner & ~no_owner & ~no_all) << 6
        | (by_group & ~no_group & ~no_all) << 3
        | (by_all & ~no_all)
    )


def _bits(mask: int) -> int:
    return sum(bit for bit, rights in _RIGHTS if mask & rights)
