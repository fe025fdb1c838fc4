"""A file source in memory, for tests of what reads one: no disks, no mounts, no other programs."""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vmount.api import Entry, FileRef
from vmount.parsers.model import Attrs
from vmount.parsers.reader import Span
from vmount.volumes.find import Volume
from vmount.volumes.unread import Unread

T = TypeVar("T")

SECOND = 10**9
TIME = 1_700_000_000 * SECOND


@dataclass(frozen=True)
class Node:
    """A file, a directory, a link or a special file."""

    content: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    mtime: int = TIME
    target: str = ""
    number: int = 0
    """Of a file with hard links; 0: its own."""
    nlink: int = 1
    spans: tuple[Span, ...] | None = None
    """What of the content may hold something; None: all of it."""
    places: tuple[Span, ...] = ()
    streams: Mapping[str, bytes] = field(default_factory=dict)
    xattrs: Mapping[str, bytes | OSError] = field(default_factory=dict)
    is_damaged: bool = False
    """Its directory lists it, and cannot say what it is; a directory cannot be listed."""
    readable: int | None = None
    """Bytes that can be read before an error; None: all of them."""


def directory(*, is_damaged: bool = False, mode: int = 0o755) -> Node:
    return Node(mode=stat.S_IFDIR | mode, is_damaged=is_damaged)


def link(target: str) -> Node:
    return Node(mode=stat.S_IFLNK | 0o777, target=target)


class OpenNode(io.BytesIO):
    """An open file."""

    def __init__(self, path: str, node: Node) -> None:
        super().__init__(node.content)
        self._path = path
        self._node = node

    def spans(self) -> Sequence[Span]:
        whole = (Span(0, len(self._node.content)),) if self._node.content else ()
        return whole if self._node.spans is None else self._node.spans

    def read(self, length: int | None = -1, /) -> bytes:
        end = self._node.readable
        if end is not None and self.tell() >= end:
            raise OSError(errno.EIO, "cannot be read", self._path)
        if end is not None and length is not None and length >= 0:
            length = min(length, end - self.tell())
        return super().read(length)


class FilesInMemory:
    """A FileSource. Directories above a path are made; the order is that in which paths were given."""

    def __init__(
        self,
        nodes: Mapping[str, Node | bytes],
        unread: Sequence[Unread] = (),
        *,
        ignores_case: bool = False,
    ) -> None:
        self.unread = tuple(unread)
        self.volumes: tuple[Volume, ...] = ()
        self._ignores_case = ignores_case
        self._nodes: dict[str, Node] = {"": directory()}
        for path, node in nodes.items():
            parts = path.split("/")
            for end in range(1, len(parts)):
                self._nodes.setdefault("/".join(parts[:end]), directory())
            self._nodes[path] = Node(node) if isinstance(node, bytes) else node
        self._numbers = {path: number for number, path in enumerate(self._nodes, 100)}
        self.opened: list[str] = []
        """Paths, in the order in which they were opened."""

    def expand(self, text: str) -> list[str]:
        found = [path for path in self._nodes if path and fnmatch.fnmatchcase(path, text)]
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
        return found

    def stat(self, path: str, *, follow: bool = True) -> Attrs:
        node = self._node(path)
        if follow and stat.S_ISLNK(node.mode):
            return self.stat(node.target)
        return self._ref(path.strip("/")).attrs

    def number(self, path: str) -> int:
        self._node(path)
        return self._ref(path.strip("/")).number

    def listdir(self, path: str) -> list[Entry]:
        node = self._node(path)
        if not stat.S_ISDIR(node.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if node.is_damaged:
            raise OSError(errno.EUCLEAN, "the directory is damaged", path)
        return [
            Entry(
                below.rpartition("/")[2], None if self._is_lost(below) else self._ref(below).attrs
            )
            for below in self._below(path.strip("/"))
        ]

    def readlink(self, path: str) -> str:
        node = self._node(path)
        if not stat.S_ISLNK(node.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return node.target

    def open(self, path: str) -> OpenNode:
        node = self._node(path)
        if stat.S_ISDIR(node.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self.opened.append(path)
        return OpenNode(path, node)

    def ignores_case(self, file: FileRef) -> bool:
        return self._ignores_case

    def is_on_volume(self, file: FileRef) -> bool:
        return not file.path.startswith("disks/")

    def below(
        self,
        path: str,
        on_error: Callable[[OSError], None],
        wanted: Callable[[FileRef], bool] | None = None,
        *,
        dangling: bool = False,
    ) -> Iterator[FileRef]:
        self._node(path)
        file = self._ref(path.strip("/"))
        if wanted is not None and not wanted(file):
            return
        yield file
        if not stat.S_ISDIR(file.attrs.mode):
            return
        if self._nodes[file.path].is_damaged:
            on_error(OSError(errno.EUCLEAN, "the directory is damaged", file.path))
            return
        for below in self._below(file.path):
            if self._is_lost(below):
                on_error(OSError(errno.EUCLEAN, "its record is damaged", below))
            else:
                yield from self.below(below, on_error, wanted)

    def open_files(self, files: Sequence[FileRef]) -> list[OpenNode | OSError]:
        opened: list[OpenNode | OSError] = []
        for file in files:
            node = self._nodes[
                file.path.removesuffix(f":{file.stream}") if file.stream else file.path
            ]
            self.opened.append(file.path)
            if file.stream:
                node = Node(node.streams[file.stream])
            if node.readable == -1:
                opened.append(OSError(errno.EIO, "cannot be opened", file.path))
            else:
                opened.append(OpenNode(file.path, node))
        return opened

    def xattrs_of(
        self, files: Sequence[FileRef], *, whole: bool = False
    ) -> list[Mapping[str, bytes | OSError]]:
        return [self._nodes[file.path].xattrs for file in files]

    def streams(
        self, files: Sequence[FileRef], on_error: Callable[[OSError], None]
    ) -> list[FileRef]:
        return [
            FileRef(
                f"{file.path}:{name}",
                file.number,
                file.attrs._replace(mode=stat.S_IFREG | 0o644, nlink=1, size=len(content)),
                name,
            )
            for file in files
            if not file.stream
            for name, content in self._nodes[file.path].streams.items()
        ]

    def places(self, files: Sequence[FileRef]) -> list[tuple[Span, ...]]:
        return [() if file.stream else self._nodes[file.path].places for file in files]

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        return call

    def _node(self, path: str) -> Node:
        try:
            return self._nodes[path.strip("/")]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def _below(self, path: str) -> list[str]:
        return [below for below in self._nodes if below and below.rpartition("/")[0] == path]

    def _is_lost(self, path: str) -> bool:
        node = self._nodes[path]
        return node.is_damaged and not stat.S_ISDIR(node.mode)

    def _ref(self, path: str) -> FileRef:
        node = self._nodes[path]
        number = node.number or self._numbers[path]
        size = len(node.target) if stat.S_ISLNK(node.mode) else len(node.content)
        times = (node.mtime, node.mtime, node.mtime, 0)
        attrs = Attrs(number, node.mode, node.nlink, 0, 0, size, size, 0, *times)
        return FileRef(path, number, attrs)
