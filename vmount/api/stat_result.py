"""What `stat` tells of a file, under the names of os.stat_result as well as our own."""

from __future__ import annotations

from typing import Self

from vmount.parsers.model import Attrs

SECOND = 10**9
"""Nanoseconds."""
BLOCK = 512
"""Bytes of a block of st_blocks, as stat(2) has it."""


class FileStat(Attrs):
    """The attributes of a file. As a tuple it is vmount's `Attrs`, not os.stat_result's."""

    number: int
    """Tells the file from all others of the disk set; hard links have one number."""

    @classmethod
    def of(cls, attrs: Attrs, number: int) -> Self:
        """Return the attributes of the file of a number."""
        made = cls._make(attrs)
        made.number = number
        return made

    @property
    def st_mode(self) -> int:
        """Type and permissions, as the module `stat` reads them."""
        return self.mode

    @property
    def st_ino(self) -> int:
        """The number of the file, which is its inode number in a mount too."""
        return self.number

    @property
    def st_dev(self) -> int:
        """0: the numbers of files tell them apart in the whole set."""
        return 0

    @property
    def st_nlink(self) -> int:
        """The number of hard links."""
        return self.nlink

    @property
    def st_uid(self) -> int:
        """The owner, as a number of the guest's."""
        return self.uid

    @property
    def st_gid(self) -> int:
        """The group, as a number of the guest's."""
        return self.gid

    @property
    def st_size(self) -> int:
        """Bytes; of a link, those of its target's text."""
        return self.size

    @property
    def st_blocks(self) -> int:
        """Blocks of 512 bytes taken on the disk."""
        return -(-self.allocated // BLOCK)

    @property
    def st_rdev(self) -> int:
        """The device number of a device file, else 0."""
        return self.rdev

    @property
    def st_atime(self) -> float:
        """Seconds since 1970 at the last access, as the guest has noted it."""
        return self.atime / SECOND

    @property
    def st_mtime(self) -> float:
        """Seconds since 1970 at the last change of the content."""
        return self.mtime / SECOND

    @property
    def st_ctime(self) -> float:
        """Seconds since 1970 at the last change of content or attributes."""
        return self.ctime / SECOND

    @property
    def st_birthtime(self) -> float:
        """Seconds since 1970 at the creation; 0 if the file system has no such time."""
        return self.btime / SECOND

    @property
    def st_atime_ns(self) -> int:
        """As st_atime, in nanoseconds."""
        return self.atime

    @property
    def st_mtime_ns(self) -> int:
        """As st_mtime, in nanoseconds."""
        return self.mtime

    @property
    def st_ctime_ns(self) -> int:
        """As st_ctime, in nanoseconds."""
        return self.ctime

    @property
    def st_birthtime_ns(self) -> int:
        """As st_birthtime, in nanoseconds."""
        return self.btime
