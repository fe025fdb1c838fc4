"""What belongs to a file beside its content: owner, mode, attributes, times.

Who copies for himself is given no more than he could make himself: no set-user-ID bits, no capabilities,
no access lists with numbers of users that mean somebody else here. Restoring a system as it was is another
thing, and is asked for (`Owner.guest`).

Everything is set on a descriptor. What cannot be opened for reading (a link, a device) is opened with O_PATH
and reached by its name in /proc/self/fd, which leads to the open file itself, a link too, and to nothing
else.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vmount.errors import explain
from vmount.jobs.copying.target import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmount.jobs.copying.options import Owner
    from vmount.jobs.copying.report import CopyReport
    from vmount.jobs.copying.target import Place
    from vmount.parsers.model import Attrs

POWERFUL = ("security.", "system.posix_acl_", "trusted.")
"""Attributes that give or take rights."""
LATE = ("system.ntfs_attrib", "system.ntfs_crtime")
"""Of these ntfs-3g has its own idea when a file is closed that was written, or renamed."""
NOT_FOR_DEVICES = "device nodes are created only with --owner guest"
SOMETHING_ELSE = "another file has replaced it"
NOT_ASKED_FOR = "not copied without --owner guest"
CONTENT = "user."
"""Attributes that are content: the user's own, alternate streams of NTFS."""
TELLING = 0x2 | 0x4
"""Of system.ntfs_attrib: hidden, system."""


class Keeper:
    """Gives copies what their originals have, and notes what they cannot have."""

    def __init__(self, owner: Owner, report: CopyReport) -> None:
        self._owner = owner
        self._report = report

    def keep(
        self,
        place: Place,
        identity: Identity | None,
        attrs: Attrs,
        xattrs: Mapping[str, bytes | OSError],
    ) -> None:
        """Set all of it; the times last. Raises OSError where even the mode or the times cannot be set.

        `identity` is that of the file that was put there; None for a link or special file, which has just
        been made and so has no second name.
        """
        descriptor = place.open()
        try:
            status = os.fstat(descriptor)
            target = _by_number(descriptor)
            if _is_it(status, identity, attrs):
                self._keep(target, place, attrs, xattrs)
            elif stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(attrs.mode):
                # Another directory, or the same one: FAT and some of FUSE give a directory another inode
                # number when they have forgotten it. Times do no harm to another.
                self._report.miss("owner, mode and attributes", SOMETHING_ELSE, str(place))
                os.utime(target, ns=(attrs.atime, attrs.mtime))
            else:
                raise OSError(errno.ESTALE, SOMETHING_ELSE, str(place))
        finally:
            os.close(descriptor)

    def keep_of_written(
        self, descriptor: int, place: Place, attrs: Attrs, xattrs: Mapping[str, bytes | OSError]
    ) -> None:
        """Do as `keep` for a file that is open; what `keep_late` sets is left for that."""
        early = {name: value for name, value in xattrs.items() if name not in LATE}
        self._keep(descriptor, place, attrs, early)

    def keep_late(
        self,
        place: Place,
        identity: Identity,
        attrs: Attrs,
        xattrs: Mapping[str, bytes | OSError],
    ) -> None:
        """Set of a file that was written what closing and renaming change. Raises OSError."""
        late = {name: xattrs[name] for name in LATE if name in xattrs}
        if not late:
            return
        descriptor = place.open()
        try:
            if Identity.of(os.fstat(descriptor)) != identity:
                raise OSError(errno.ESTALE, SOMETHING_ELSE, str(place))
            target = _by_number(descriptor)
            for name, value in late.items():
                self._set_xattr(target, place, attrs, name, value)
            os.utime(target, ns=(attrs.atime, attrs.mtime))
        finally:
            os.close(descriptor)

    def _keep(
        self,
        target: str | int,
        place: Place,
        attrs: Attrs,
        xattrs: Mapping[str, bytes | OSError],
    ) -> None:
        owned = self._owner.guest and self._set_owner(target, place, attrs)
        if not stat.S_ISLNK(attrs.mode):
            os.chmod(target, attrs.mode & self._kept_bits(attrs.mode, owned))  # noqa: PTH101
        for name, value in xattrs.items():
            self._set_xattr(target, place, attrs, name, value)
        try:
            os.utime(target, ns=(attrs.atime, attrs.mtime))
        except OSError as error:
            error.filename = str(place)
            raise

    def _set_owner(self, target: str | int, place: Place, attrs: Attrs) -> bool:
        uid = self._owner.uids.get(attrs.uid, attrs.uid)
        gid = self._owner.gids.get(attrs.gid, attrs.gid)
        if _is_device(attrs.mode) and uid != os.geteuid():
            self._report.miss("owner", NOT_FOR_DEVICES, str(place))
            return False
        try:
            os.chown(target, uid, gid)
        except OSError as error:
            self._report.miss("owner", explain_reason(error), str(place))
            return False
        return True

    def _kept_bits(self, mode: int, owned: bool) -> int:
        if _is_device(mode):
            # It leads to a device of this machine, which is not the guest's to give to others.
            return 0o700
        return 0o7777 if owned else 0o777

    def _set_xattr(
        self, target: str | int, place: Place, attrs: Attrs, name: str, value: bytes | OSError
    ) -> None:
        if name.startswith(POWERFUL):
            reason = NOT_FOR_DEVICES if _is_device(attrs.mode) else NOT_ASKED_FOR
            if reason is NOT_FOR_DEVICES or not self._owner.guest:
                self._report.miss(name, reason, str(place))
                return
        try:
            if isinstance(value, OSError):
                raise value
            os.setxattr(target, name, value)
        except OSError as error:
            reason = explain_reason(error)
            if name.startswith(CONTENT):
                self._report.lost.append(f"{place}: {name}: {reason}")
            elif isinstance(value, OSError) or not is_said_otherwise(name, value):
                self._report.miss(name, reason, str(place))


def _is_it(status: os.stat_result, identity: Identity | None, attrs: Attrs) -> bool:
    """Say whether a status is that of the file that was put there."""
    if identity is not None:
        return Identity.of(status) == identity
    return stat.S_IFMT(status.st_mode) == stat.S_IFMT(attrs.mode) and status.st_nlink <= 1


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _by_number(descriptor: int) -> str:
    """Return the path of what is open under a number, a link itself."""
    return f"/proc/self/fd/{descriptor}"


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
