"""What belongs to a file beside its content: owner, mode, attributes, times.

Who copies for himself is given no more than he could make himself: no set-user-ID bits, no capabilities,
no access lists with numbers of users that mean somebody else here. Restoring a system as it was is another
thing, and is asked for (`Owner.guest`).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.jobs.copying.options import Owner
    from vmount.jobs.copying.report import CopyReport
    from vmount.parsers.model import Attrs

POWERFUL = ("security.", "system.posix_acl_", "trusted.")
"""Attributes that give or take rights."""
LATE = ("system.ntfs_attrib", "system.ntfs_crtime")
"""Of these ntfs-3g has its own idea when a file is closed that was written, or renamed."""
NOT_ASKED_FOR = "left out without --owner guest"
CONTENT = "user."
"""Attributes that are content: the user's own, alternate streams of NTFS."""
TELLING = 0x2 | 0x4
"""Of system.ntfs_attrib: hidden, system."""


class Keeper:
    """Gives copies what their originals have, and notes what they cannot have."""

    def __init__(self, owner: Owner, report: CopyReport) -> None:
        self._owner = owner
        self._report = report

    def keep(self, place: Path, attrs: Attrs, xattrs: Mapping[str, bytes | OSError]) -> None:
        """Set all of it; the times last. Raises OSError where even the mode or the times cannot be set."""
        is_link = stat.S_ISLNK(attrs.mode) or place.is_symlink()
        self._keep(place, place, attrs, xattrs, is_link=is_link)

    def keep_of_written(
        self, file: int | Path, place: Path, attrs: Attrs, xattrs: Mapping[str, bytes | OSError]
    ) -> None:
        """Do as `keep` for a file that was written: first while it is open, then at its `place`."""
        if isinstance(file, int):
            early = {name: value for name, value in xattrs.items() if name not in LATE}
            self._keep(file, place, attrs, early, is_link=False)
        elif late := [name for name in LATE if name in xattrs]:
            for name in late:
                self._set_xattr(place, place, name, xattrs[name])
            os.utime(place, ns=(attrs.atime, attrs.mtime), follow_symlinks=False)

    def _keep(
        self,
        target: Path | int,
        place: Path,
        attrs: Attrs,
        xattrs: Mapping[str, bytes | OSError],
        *,
        is_link: bool,
    ) -> None:
        owned = self._owner.guest and self._set_owner(target, place, attrs)
        if not is_link:
            # chmod follows links, so what is there must be what was put there.
            os.chmod(target, attrs.mode & self._kept_bits(attrs.mode, owned))  # noqa: PTH101
        for name, value in xattrs.items():
            self._set_xattr(target, place, name, value)
        os.utime(target, ns=(attrs.atime, attrs.mtime), follow_symlinks=_is_open(target))

    def _set_owner(self, target: Path | int, place: Path, attrs: Attrs) -> bool:
        uid = self._owner.uids.get(attrs.uid, attrs.uid)
        gid = self._owner.gids.get(attrs.gid, attrs.gid)
        try:
            os.chown(target, uid, gid, follow_symlinks=_is_open(target))
        except OSError as error:
            self._report.miss("owner", explain_reason(error), str(place))
            return False
        return True

    def _kept_bits(self, mode: int, owned: bool) -> int:
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            # It leads to a device of this machine, which is not the guest's to give to others.
            return 0o700
        return 0o7777 if owned else 0o777

    def _set_xattr(
        self, target: Path | int, place: Path, name: str, value: bytes | OSError
    ) -> None:
        if name.startswith(POWERFUL) and not self._owner.guest:
            self._report.miss(name, NOT_ASKED_FOR, str(place))
            return
        try:
            if isinstance(value, OSError):
                raise value
            os.setxattr(target, name, value, follow_symlinks=_is_open(target))
        except OSError as error:
            reason = explain_reason(error)
            if name.startswith(CONTENT):
                self._report.lost.append(f"{place}: {name}: {reason}")
            elif isinstance(value, OSError) or not is_said_otherwise(name, value):
                self._report.miss(name, reason, str(place))


def _is_open(target: Path | int) -> bool:
    """Say whether a call may follow links: a descriptor is none, and refuses not to be followed."""
    return isinstance(target, int)


def is_said_otherwise(name: str, value: bytes) -> bool:
    """Tell whether a property of NTFS says nothing that a copy on another file system has not or needs.

    No file system lets a time of creation be set but NTFS; and of Windows' attributes most files have none
    that matter.
    """
    if name == "system.ntfs_crtime":
        return True
    bits = int.from_bytes(value[:4], "little")
    return name == "system.ntfs_attrib" and not bits & TELLING


def explain_reason(error: OSError) -> str:
    """Return what an OSError says, without the name of a file."""
    if error.errno == errno.EOPNOTSUPP:
        return "not supported by the target"
    return error.strerror or explain(error)
