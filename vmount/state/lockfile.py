"""Files that one process at a time has open: flock(2), which the kernel drops when the process ends.

Whoever holds the lock may remove the file; whoever opened it before that then holds the lock of a file
that nobody else will find, so a lock counts only if the name still leads to the file.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def try_lock(path: Path, *, create: bool) -> int | None:
    """Return a descriptor of the file, for reading and appending; None while another holds it.

    Closing the descriptor, in every process that has inherited it, releases the lock. Raises
    FileNotFoundError if the file is not there and shall not be made, or OSError.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _leads_to(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
