"""Owner, group and permissions of files, from their security descriptors.

Strategy: files share descriptors, so what one comes to is worked out once for each number in $Secure.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$Secure"; [MS-DTYP] 2.4.
"""

from __future__ import annotations

import logging
import stat
from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import ParseError
from vmount.parsers.lru import Lru
from vmount.parsers.ntfs.permissions import mode_of
from vmount.parsers.ntfs.security_descriptor import decode_descriptor
from vmount.parsers.ntfs.standard_information import security_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.model import Attrs
    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.security import SecurityDescriptors
    from vmount.parsers.ntfs.user_map import UserMap

log = logging.getLogger(__name__)

NOBODY_ELSE = 0o700
MOST_KEPT = 1 << 16
"""Descriptors whose owners are kept."""


class _Rights(NamedTuple):
    uid: int
    gid: int
    mode: int


UNKNOWN = _Rights(0, 0, NOBODY_ELSE)
"""Of a file whose descriptor is damaged or missing: nobody gets more than he had."""


class Owners:
    """Says whose the files of a volume are."""

    def __init__(self, security: SecurityDescriptors, users: UserMap, volume: str) -> None:
        """`volume` names the volume in messages."""
        self._volume = volume
        self._is_damage_known = False
        self._security = security
        self._users = users
        self._known: Lru[int, _Rights] = Lru(MOST_KEPT)

    async def applied(self, attrs: Attrs, attributes: Sequence[Attribute]) -> Attrs:
        """Return a file's attributes with its own owner and mode. Links may be used by all."""
        uid, gid, mode = await self._rights(attributes)
        if stat.S_ISLNK(attrs.mode):
            mode = 0o777
        return attrs._replace(uid=uid, gid=gid, mode=stat.S_IFMT(attrs.mode) | mode)

    async def _rights(self, attributes: Sequence[Attribute]) -> _Rights:
        number = 0
        try:
            number = security_id_of(attributes)
            known = self._known.get(number)
            if known is not None:
                return known
            value = await self._security.of(attributes)
            if value is None:
                return UNKNOWN
            descriptor = decode_descriptor(value)
            rights = _Rights(
                self._users.uid(descriptor.owner),
                self._users.gid(descriptor.group),
                mode_of(descriptor),
            )
        except ParseError as error:
            self._note(error)
            rights = UNKNOWN
        if number:
            self._known.put(number, rights)
        return rights

    def _note(self, error: ParseError) -> None:
        """Log the first damage: what is wrong with $SDS is wrong for thousands of files."""
        if not self._is_damage_known:
            self._is_damage_known = True
            log.warning(
                "NTFS volume %s: security descriptors cannot be read, first: %s;"
                " their files belong to root and are closed to others",
                self._volume,
                error,
            )
