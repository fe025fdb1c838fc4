"""Which numbers Windows' users and groups have here.

Without a map a user or group of a machine or domain goes by the last part of its SID (its RID, 1001 for the
first user of a machine), and what Windows has built in (SYSTEM, Administrators ...) by 0. A map in the form
of ntfs-3g's UserMapping names each: a line is `uid:gid:SID`, with one of the numbers for a user or a
group, both for one that is used as either. What it does not name is 0.

Source: ntfs-3g's manual, "UserMapping"; [MS-DTYP] 2.4.2.4 for the well-known SIDs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmount.parsers.ntfs.security_descriptor import Sid

if TYPE_CHECKING:
    from collections.abc import Iterable

NT_AUTHORITY = 5
NOT_UNIQUE = 21
"""First part of the SIDs of machines and domains."""

_RELATIVE_PARTS = 5
_LINE = re.compile(r"(\d{0,10}):(\d{0,10}):S-1-(\d{1,15})((?:-\d{1,10})+)")


@dataclass(frozen=True)
class UserMap:
    """Numbers by SID."""

    users: Mapping[Sid, int] = field(default_factory=dict)
    groups: Mapping[Sid, int] = field(default_factory=dict)
    relative: bool = True
    """Who is not in it goes by his RID."""

    def uid(self, sid: Sid | None) -> int:
        """Return the number of an owner."""
        return self._number(sid, self.users)

    def gid(self, sid: Sid | None) -> int:
        """Return the number of a group."""
        return self._number(sid, self.groups)

    def _number(self, sid: Sid | None, known: Mapping[Sid, int]) -> int:
        if sid is None:
            return 0
        if sid in known:
            return known[sid]
        authority, parts = sid
        if self.relative and authority == NT_AUTHORITY and len(parts) == _RELATIVE_PARTS:
            return parts[-1] if parts[0] == NOT_UNIQUE else 0
        return 0


def parse_user_map(lines: Iterable[str]) -> UserMap:
    """Read a UserMapping of ntfs-3g. Raises ValueError, naming the line that is none of its form."""
    users: dict[Sid, int] = {}
    groups: dict[Sid, int] = {}
    for number, text in enumerate(lines, 1):
        line = text.partition("#")[0].strip()
        if not line:
            continue
        matched = _LINE.fullmatch(line)
        if matched is None or not (matched[1] or matched[2]):
            raise ValueError(
                f"line {number}: {line!r} is invalid (expected uid:gid:SID with numbers)"
            )
        sid = Sid(int(matched[3]), tuple(int(part) for part in matched[4].split("-")[1:]))
        if matched[1]:
            users[sid] = int(matched[1])
        if matched[2]:
            groups[sid] = int(matched[2])
    return UserMap(users, groups, relative=False)
