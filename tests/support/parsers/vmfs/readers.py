"""Walks of a datastore: by the parser, by vmfs-tools or vmfs6-tools, by dissect.vmfs.

All give the same records, so that they can be compared. Of large files, which are sparse, the windows
where something is are read, and some where nothing is.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import stat
import subprocess
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from dissect.vmfs import VMFS, lvm

from vmount.parsers.model import FileData, Inline, Run, Runs
from vmount.parsers.reader import Buffer, Span, check_bounds, run_sync
from vmount.parsers.vmfs.filesystem import Vmfs, open_vmfs

FUSE = {"vmfs5": "vmfs-fuse", "vmfs6": "vmfs6-fuse"}
WHOLE = 160 << 20
"""Bytes: files up to here are read whole."""
WINDOW = 64 << 10


class Seen(NamedTuple):
    """What a reader says of a file."""

    kind: int
    size: int
    mtime: int
    """In seconds."""
    links: int
    content: str
    """A hash of what was read; the target of a symbolic link."""


class FileReader:
    """A Reader over a file, which counts."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.size = path.stat().st_size
        self.reads = 0

    def try_read(self, offset: int, length: int) -> bytes:
        check_bounds(offset, length, self.size)
        self.reads += 1
        return os.pread(self._file.fileno(), length, offset)

    async def read(self, offset: int, length: int) -> bytes:
        return self.try_read(offset, length)

    def prefetch(self, spans: Sequence[Span]) -> None:
        pass


def open_files(paths: Sequence[Path]) -> Vmfs:
    return run_sync(open_vmfs([FileReader(path) for path in paths]))


def windows(data: FileData | None, size: int) -> list[Span]:
    """Return the windows to read: both ends of every run, and some places between."""
    if size <= WHOLE or data is None:
        return [Span(at, min(1 << 20, size - at)) for at in range(0, min(size, WHOLE), 1 << 20)]
    dice = random.Random(size)
    places = {dice.randrange(size) for _ in range(20)} | {0, size - WINDOW}
    if isinstance(data.layout, Runs):
        for run in data.layout.runs[:: max(1, len(data.layout.runs) // 200)]:
            places |= {run.offset - WINDOW // 2, run.offset + run.length - WINDOW // 2}
    inside = sorted(max(0, min(place, size - WINDOW)) for place in places)
    return [Span(place, WINDOW) for place in inside]


def paths_of(filesystem: Vmfs) -> dict[str, tuple[int, FileData | None]]:
    """Return the files by path: their numbers, and where the bytes of regular ones are, if anywhere."""
    found: dict[str, tuple[int, FileData | None]] = {}

    def visit(ino: int, path: str) -> None:
        for entry in run_sync(filesystem.listdir(ino)):
            assert entry.attrs is not None
            name = f"{path}/{os.fsdecode(entry.name)}"
            readable = stat.S_ISREG(entry.kind) and "-rdm" not in name
            found[name] = entry.ino, run_sync(filesystem.data(entry.ino)) if readable else None
            if stat.S_ISDIR(entry.kind):
                visit(entry.ino, name)

    visit(filesystem.root, "")
    return found


def walk_parser(filesystem: Vmfs) -> dict[str, Seen]:
    """Walk by the parser."""
    seen = {}
    for path, (ino, data) in paths_of(filesystem).items():
        attrs = run_sync(filesystem.attrs(ino))
        if stat.S_ISLNK(attrs.mode):
            content = os.fsdecode(run_sync(filesystem.readlink(ino)))
        elif data is not None:
            content = digest(
                read_data(filesystem, data, span) for span in windows(data, attrs.size)
            )
        else:
            content = ""
        kind, mtime = stat.S_IFMT(attrs.mode), attrs.mtime // 10**9
        seen[path] = Seen(kind, attrs.size, mtime, attrs.nlink, content)
    return seen


def read_data(filesystem: Vmfs, data: FileData, span: Span) -> bytes:
    """Return bytes of a file as whoever serves it would."""
    if isinstance(data.layout, Inline):
        return data.layout.data[span.offset : span.offset + span.length]
    assert isinstance(data.layout, Runs)
    return read_runs(data.layout.runs, span, filesystem.volume.read)


def read_runs(
    runs: Sequence[Run], span: Span, read: Callable[[int, int], Coroutine[Any, Any, Buffer]]
) -> bytes:
    parts = []
    end = span.offset + span.length
    for run in runs:
        start, stop = max(span.offset, run.offset), min(end, run.offset + run.length)
        if start < stop and run.start is None:
            parts.append(bytes(stop - start))
        elif start < stop and run.start is not None:
            parts.append(bytes(run_sync(read(run.start + start - run.offset, stop - start))))
    return b"".join(parts)


def walk_mounted(
    mountpoint: Path, known: Mapping[str, tuple[int, FileData | None]]
) -> dict[str, Seen]:
    """Walk a mounted file system. `known` says which windows to read of which file."""
    seen = {}
    for folder, folders, files in os.walk(mountpoint):
        for entry in folders + files:
            place = Path(folder, entry)
            path = f"/{place.relative_to(mountpoint)}"
            status = place.lstat()
            content = ""
            data = known[path][1] if path in known else None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(place)
            elif data is not None:
                with place.open("rb", buffering=0) as file:
                    content = digest_file(file.fileno(), windows(data, status.st_size))
            kind, mtime = stat.S_IFMT(status.st_mode), int(status.st_mtime)
            seen[path] = Seen(kind, status.st_size, mtime, status.st_nlink, content)
    return seen


def walk_dissect(
    paths: Sequence[Path], known: Mapping[str, tuple[int, FileData | None]]
) -> dict[str, Seen]:
    """Walk by dissect.vmfs."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        filesystem = VMFS(lvm.LVM(files).volumes[0].open())
        seen: dict[str, Seen] = {}

        def visit(folder: object, path: str) -> None:
            for entry in folder.iterdir():  # type: ignore[attr-defined]
                if entry.name in (".", ".."):
                    continue
                name = f"{path}/{entry.name}"
                file = entry.file_descriptor
                content = ""
                data = known[name][1] if name in known else None
                if file.is_symlink():
                    content = file.link
                elif data is not None:
                    stream = file.open()
                    content = digest(read_stream(stream, span) for span in windows(data, file.size))
                mtime = int(file.mtime.timestamp())
                links = file.metadata.linkCount
                seen[name] = Seen(stat.S_IFMT(file.mode), file.size, mtime, links, content)
                if file.is_dir():
                    visit(file, name)

        visit(filesystem.root, "")
        return seen


@contextlib.contextmanager
def mounted(name: str, devices: Sequence[Path], folder: Path) -> Iterator[Path]:
    """Mount devices with vmfs-tools or vmfs6-tools."""
    mountpoint = folder / "fuse"
    mountpoint.mkdir()
    subprocess.run([FUSE[name], *devices, mountpoint], check=True)
    try:
        yield mountpoint
    finally:
        subprocess.run(["fusermount", "-u", "-z", mountpoint], check=True)


def digest(parts: Iterator[bytes]) -> str:
    value = hashlib.sha256()
    for part in parts:
        value.update(part)
    return value.hexdigest()


def read_stream(stream: IO[bytes], span: Span) -> bytes:
    stream.seek(span.offset)
    return stream.read(span.length)


def digest_file(descriptor: int, spans: Sequence[Span]) -> str:
    """Return the hash of parts of a file, or what the system says it cannot be read for."""
    try:
        return digest(os.pread(descriptor, span.length, span.offset) for span in spans)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
