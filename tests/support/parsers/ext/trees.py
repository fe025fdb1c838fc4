"""A tree as our parser shows it and as a mounted volume shows it, in one form to be compared.

Unlike `fixtures.walk` this goes on where something cannot be read, and notes it: for damaged volumes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from fixtures.walk import hash_ranges
from tests.support.parsers.ext.support import FileSource, MemorySource, read_range, run
from vmount.parsers.errors import ParseError
from vmount.parsers.ext.filesystem import ExtFilesystem
from vmount.parsers.model import XAttr

MOUNT_LIMIT = 60
"""Seconds that mounting may take."""
LARGE_DIRECTORY = 1000
"""Names: of a larger directory all names are compared, and of the files one in SAMPLE."""
SAMPLE = 16


class Seen(NamedTuple):
    """A file."""

    body: str
    """Its kind, with the digest of its bytes or the target of the link."""
    mode: int
    uid: int
    gid: int
    size: int
    nlink: int
    allocated: int
    rdev: int
    mtime: int
    ctime: int
    atime: int
    xattrs: tuple[tuple[bytes, bytes], ...] | None
    """None if they cannot be read."""


NAME_ONLY = Seen("a name", *(0,) * 10, ())
"""A file of a large directory."""


@dataclass
class Tree:
    """What was found, by path ("/a/b"; the root is "")."""

    files: dict[bytes, Seen] = field(default_factory=dict)
    problems: dict[bytes, str] = field(default_factory=dict)

    def missing(self, path: bytes) -> bool:
        """Tell whether a path is neither shown nor below something that is noted as a problem."""
        while path not in self.files:
            if path in self.problems:
                return False
            path, slash, _ = path.rpartition(b"/")
            if not slash:
                return True
            if path in self.files and path not in self.problems:
                return True
        return False


def our_tree(volume: ExtFilesystem, source: FileSource | MemorySource) -> Tree:
    """Walk a volume by its parser."""
    tree = Tree()
    folders = {b"": run(volume.attrs(volume.root))}
    while folders:
        path, attrs = folders.popitem()

        def content(mode: int, ino: int, size: int) -> str:
            if stat.S_ISLNK(mode):
                return _link(run(volume.readlink(ino)))
            if stat.S_ISREG(mode):
                data = run(volume.data(ino))
                return _digest(size, lambda at, length: read_range(source, data, at, length))
            return ""

        try:
            children = run(volume.listdir(attrs.ino))
        except (ParseError, OSError) as error:
            tree.problems[path] = str(error)
            children = []
        named = {path + b"/" + child.name: child.attrs for child in children}
        if not path:
            named[b""] = attrs
        examined = _examined(named)
        for full, child in named.items():
            if child is None:
                tree.problems[full] = "the inode cannot be read"
                continue
            if full not in examined:
                tree.files[full] = NAME_ONLY
                continue
            try:
                body = content(child.mode, child.ino, child.size)
            except (ParseError, OSError) as error:
                tree.problems[full] = str(error)
                continue
            xattrs = None
            try:
                xattrs = _ordered(
                    (name, _whole(attribute))
                    for name, attribute in run(volume.xattrs(child.ino)).items()
                    if _shown(child.mode, name)
                )
            except (ParseError, OSError) as error:
                tree.problems[full] = f"attributes: {error}"
            tree.files[full] = Seen(
                body,
                child.mode,
                child.uid,
                child.gid,
                child.size,
                child.nlink,
                child.allocated,
                child.rdev,
                child.mtime,
                child.ctime,
                child.atime,
                xattrs,
            )
            if stat.S_ISDIR(child.mode) and full:
                folders[full] = child
    return tree


def mounted_tree(root: Path) -> Tree:
    """Walk a mounted volume."""
    tree = Tree()
    top = os.fsencode(root)
    folders = [b""]
    while folders:
        path = folders.pop()
        try:
            named = [path + b"/" + name for name in os.listdir(top + path)]
        except OSError as error:
            tree.problems[path] = str(error)
            named = []
        if not path:
            named.append(b"")
        examined = _examined(named)
        for full in named:
            if full not in examined:
                tree.files[full] = NAME_ONLY
                continue
            try:
                status = os.lstat(top + full)
                body = _mounted_content(top + full, status)
            except OSError as error:
                tree.problems[full] = str(error)
                continue
            xattrs = None
            try:
                xattrs = _ordered(
                    (name, os.getxattr(top + full, name, follow_symlinks=False))
                    for name in map(os.fsencode, os.listxattr(top + full, follow_symlinks=False))
                    if _shown(status.st_mode, name)
                )
            except OSError as error:
                tree.problems[full] = f"attributes: {error}"
            tree.files[full] = Seen(
                body,
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_size,
                status.st_nlink,
                status.st_blocks * 512,
                status.st_rdev,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_atime_ns,
                xattrs,
            )
            if stat.S_ISDIR(status.st_mode) and full:
                folders.append(full)
    return tree


@contextmanager
def kernel_mount(image: Path, folder: Path) -> Iterator[str]:
    """Mount a volume at `folder` read-only, its journal replayed into `image`; yield "", or why it cannot
    be mounted.

    Where the kernel does not replay for a read-only mount (fast commits) it is mounted read-write.
    """
    loop = _command("losetup", "--find", "--show", str(image)).stdout.strip()
    mount = ("mount", "-t", "ext4", loop, str(folder), "-o")
    try:
        done = _command(*mount, "ro,errors=continue", check=False)
        if done.returncode:
            done = _command(*mount, "rw,errors=continue,noatime", check=False)
        try:
            yield done.stderr.strip() if done.returncode else ""
        finally:
            if not done.returncode:
                _command("umount", str(folder))
    finally:
        _command("losetup", "--detach", loop)


def differences(ours: Tree, theirs: Tree) -> Iterator[tuple[bytes, str]]:
    """Yield (path, what) for what is shown differently, or by one of the two only.

    What we refuse aloud is no difference, nor is what the kernel refuses and we show with a problem noted: a
    directory that cannot be listed, or a file without its damaged attributes.
    """
    for path in ours.files.keys() & theirs.files.keys():
        mine, other = ours.files[path], theirs.files[path]
        if NAME_ONLY in (mine, other):
            continue
        if mine.xattrs is None:
            other = other._replace(xattrs=None)
        fields = [name for name in Seen._fields if getattr(mine, name) != getattr(other, name)]
        if fields:
            what = ((name, getattr(mine, name), getattr(other, name)) for name in fields)
            yield path, "; ".join(f"{name}: ours {a!r}, theirs {b!r}" for name, a, b in what)
    for path in theirs.files.keys() - ours.files.keys():
        if ours.missing(path):
            yield path, "not shown, and nothing is said of it"
    for path in ours.files.keys() - theirs.files.keys():
        if path not in ours.problems:
            yield path, f"only shown by us: {theirs.problems.get(path, 'no such name')}"


def _examined(paths: Iterable[bytes]) -> set[bytes]:
    paths = list(paths)
    if len(paths) < LARGE_DIRECTORY:
        return set(paths)
    return {path for path in paths if not path or crc32(path) % SAMPLE == 0}


def _shown(mode: int, name: bytes) -> bool:
    """Tell whether Linux lets an attribute through: it has user attributes for files and directories only."""
    return not name.startswith(b"user.") or stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _ordered(attributes: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(sorted((name, hashlib.sha256(value).digest()) for name, value in attributes))


def _whole(attribute: XAttr) -> bytes:
    if isinstance(attribute.value, ParseError):
        raise attribute.value
    assert isinstance(attribute.value, bytes)
    return attribute.value


def _mounted_content(path: bytes, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return _link(os.readlink(path))
    if stat.S_ISREG(status.st_mode):
        handle = os.open(path, os.O_RDONLY | os.O_NOATIME)
        try:
            return _digest(status.st_size, lambda at, length: os.pread(handle, length, at))
        finally:
            os.close(handle)
    return ""


def _link(target: bytes) -> str:
    return f"link {target!r}"


def _digest(size: int, read: Callable[[int, int], bytes]) -> str:
    value = hashlib.sha256()
    for offset, length in hash_ranges(size):
        for at in range(offset, offset + length, 1 << 20):
            value.update(read(at, min(1 << 20, offset + length - at)))
    return f"file {value.hexdigest()}"


def _command(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, check=check, timeout=MOUNT_LIMIT
    )
