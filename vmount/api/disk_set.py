"""The open disks of a machine as an object of Python: what `open_disks` gives."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from vmount.api import browse, spelling
from vmount.api.bridge import Bridge, InlineBridge, TrioBridge
from vmount.api.file_reader import FileReader, SmallFile
from vmount.api.files import Files
from vmount.api.handles import (
    DiskSetInfo,
    Mounting,
    OsInfo,
    VolumeHandle,
    dismount_all,
    os_info_of,
)
from vmount.api.lookup import Entry, FileRef, Lookup
from vmount.api.resources import Resources, release_dropped
from vmount.api.stat_result import FileStat
from vmount.disk_set import OpenDiskSet
from vmount.errors import SourceError
from vmount.options import OpenOptions
from vmount.sources.connection import with_connection
from vmount.sources.opening import absolute
from vmount.sources.registry import recognise
from vmount.sources.san import is_browsing
from vmount.sources.web import without_query
from vmount.state import StateDir, default_state_dir
from vmount.tree.builder import build_tree
from vmount.tree.info import as_json, describe

if TYPE_CHECKING:
    from types import TracebackType

    from vmount.disks.disk import Disk
    from vmount.parsers.reader import Span
    from vmount.volumes.find import Volume
    from vmount.volumes.unread import Unread

T = TypeVar("T")

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""A path, as the methods of DiskSet take it."""
OnError = Callable[[OSError], None]


class DiskSet:
    """The open disks of a machine. `open_disks` makes it; close it when done. Any thread may use it.

    A path is one of the mount ("volumes/disk0-p1/Users"; "volumes/" may be left out), as every method
    returns it. If there is no such file, it is read as the guest writes it: "C:\\Users\\ann", "/home/ann", on
    Windows in any case. "file:stream" is an alternate stream of NTFS. Methods that take a path raise
    FileNotFoundError with advice if it names nothing, and other OSErrors for what cannot be read.
    """

    def __init__(self, resources: Resources) -> None:
        manager = resources.manager
        info = as_json(describe(manager)).encode()
        top = b""
        if len(manager.sources) == 1 and is_browsing(manager.sources[0]):
            top = b"volumes/" + os.fsencode(manager.volumes[0].name)
        tree = build_tree(manager, lambda: info, lambda: b"{}\n")
        self._lookup = Lookup(tree, resources.bridge, top)
        self._files = Files(self._lookup)
        self._manager = manager
        self._mounting = resources.mounting
        self._resources = resources
        shown = ", ".join(repr(without_query(source)) for source in manager.sources)
        self._shown = f"of {shown}"
        self._finalizer = weakref.finalize(
            self, release_dropped, resources, self._shown, os.getpid()
        )

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._finalizer.alive

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The disks in the order given."""
        return self._manager.disks

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes, disk by disk."""
        return self._manager.volumes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        return self._manager.warnings

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The disks and volumes that cannot be read, and what the guest's own tree lacks of them.

        Nothing that is listed, found or compared in this set says anything of them.
        """
        return self._manager.unread

    def info(self) -> dict[str, Any]:
        """Return what info.json in a mount says."""
        return describe(self._manager)

    # As VMware's mount library has it

    def set_info(self) -> DiskSetInfo:
        """Return whether the set is read-only (it is) and where it is mounted."""
        return DiskSetInfo(True, self._mounting.mountpoint)

    def os_info(self) -> OsInfo:
        """Return what is known of the guest's operating system."""
        return os_info_of(self._manager.guest)

    def volume_handles(self) -> tuple[VolumeHandle, ...]:
        """Return a handle of each volume, in the order of `volumes`: those that cannot be read too."""
        return tuple(
            VolumeHandle(volume, self._manager, self._mounting, keep=self)
            for volume in self.volumes
        )

    def dismount_all(self, *, force: bool = False) -> None:
        """Dismount all volumes. Raises BusyError if one is in use, unless forced."""
        dismount_all(self.volume_handles(), force=force)

    # Paths as users of the commands write them (vmount.api.spelling)

    def expand(self, text: str) -> list[str]:
        r"""Return the paths of files that a text names: a path of the mount or of the guest
        (`C:\Users\ann`, `/home/ann`), with patterns.

        As the commands do it: "/root" is a directory of the guest first, and the mount's root/ only if the
        guest has none.
        """
        return spelling.expand(self._lookup, text)

    def locate(self, text: str) -> str:
        """Return the path of the file that a text names, as `expand` does without patterns."""
        return spelling.locate(self._lookup, text)

    def tops(self) -> frozenset[str]:
        """Return the names at the top of what a mount shows; none of a datastore that is browsed."""
        return self._lookup.tops()

    def is_caseless(self, path: AnyPath) -> bool:
        """Say whether the guest matches names in a directory without regard to case."""
        return self._lookup.is_caseless(self._own(path))

    def stream_names(self, path: AnyPath) -> list[str]:
        """Return the names of a file's alternate streams."""
        return self._lookup.stream_names(self._own(path))

    # One file

    def stat(self, path: AnyPath, *, follow: bool = True) -> FileStat:
        """Return a file's attributes: of what a link leads to, unless `follow` is False."""
        file = self._at(path, follow=follow)
        return FileStat.of(file.attrs, file.number)

    def lstat(self, path: AnyPath) -> FileStat:
        """Return a file's attributes; of a link, its own."""
        return self.stat(path, follow=False)

    def exists(self, path: AnyPath, *, follow: bool = True) -> bool:
        """Say whether a path names a file of any kind. Raises OSError if that cannot be told."""
        return self._mode(path, follow) != 0

    def is_dir(self, path: AnyPath, *, follow: bool = True) -> bool:
        """Say whether a path names a directory. Raises OSError if that cannot be told."""
        return stat.S_ISDIR(self._mode(path, follow))

    def is_file(self, path: AnyPath, *, follow: bool = True) -> bool:
        """Say whether a path names a regular file. Raises OSError if that cannot be told."""
        return stat.S_ISREG(self._mode(path, follow))

    def is_symlink(self, path: AnyPath) -> bool:
        """Say whether a path names a symbolic link or a junction. Raises OSError if that cannot be told."""
        return stat.S_ISLNK(self._mode(path, False))

    def number(self, path: AnyPath) -> int:
        """Return what tells a file from all others of the set; hard links have one number.

        A volume's files have other numbers below root/.
        """
        return self._at(path, follow=False).number

    def readlink(self, path: AnyPath) -> str:
        """Return the target of a symbolic link."""
        return self._lookup.readlink(self._own(path))

    def xattrs(self, path: AnyPath) -> Mapping[str, bytes]:
        """Return a file's extended attributes."""
        return self._lookup.xattrs(self._own(path))

    def open(self, path: AnyPath) -> FileReader:
        """Open a file for reading: a binary file object. It keeps the disk set open unless that is closed."""
        content = self._lookup.content(self._at(path, follow=True))
        return FileReader(content, os.fsdecode(path), self._lookup.bridge, keep=self)

    def read_bytes(self, path: AnyPath) -> bytes:
        """Return all that a file holds."""
        with self.open(path) as file:
            return file.read()

    def read_text(self, path: AnyPath, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return all that a file holds, as text. Ends of lines stay as they are."""
        return self.read_bytes(path).decode(encoding, errors)

    # Directories

    def listdir(self, path: AnyPath = "/") -> list[Entry]:
        """Return what a directory holds."""
        return self._lookup.listdir(self._own(path))

    def scandir(self, path: AnyPath = "/") -> browse.Scandir:
        """Return the entries of a directory, with the methods of os.DirEntry."""
        return browse.scandir(self._lookup, self._own(path))

    def walk(
        self,
        top: AnyPath = "/",
        topdown: bool = True,
        onerror: Callable[[OSError], Any] | None = None,
        followlinks: bool = False,
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield directory, names of directories in it, names of other files in it, as os.walk does.

        With `topdown`, a caller that changes the list of directories says which of them are walked. A
        directory that cannot be listed, or that the walk has been in already, is passed over and its OSError
        given to `onerror`; without that it is raised, which os.walk does not do.
        """
        try:
            own = self._own(top)
        except OSError as error:
            if onerror is None:
                raise
            onerror(error)
            return iter(())
        return browse.walk(
            self._lookup, own, topdown=topdown, onerror=onerror, followlinks=followlinks
        )

    def walk_entries(
        self, path: AnyPath = "/", on_error: OnError | None = None
    ) -> Iterator[tuple[str, list[Entry]]]:
        """Yield each directory below a path, that of the path first, with what it holds. Links are not followed.

        Errors are as those of `walk`.
        """
        return browse.walk_entries(self._lookup, self._own(path), on_error)

    def glob(self, pattern: str, *, on_error: OnError | None = None) -> list[str]:
        r"""Return the paths that a pattern names, sorted; an empty list if it names none.

        `*`, `?` and `[...]` stand for parts of a name, a leading dot too; `**` for any number of
        directories: "/etc/**/*.conf", r"C:\Users\*\Documents\**". What cannot be listed is given to
        `on_error`; without that its OSError is raised.
        """
        return browse.glob(self._lookup, self._files, pattern, on_error)

    # Many files at a time (vmount.api.files)

    def files(
        self, path: AnyPath = "volumes", on_error: OnError | None = None
    ) -> Iterator[FileRef]:
        """Yield every regular file of the volumes at or below a path; as `below` does it."""
        return self._files.files(self._own(path), on_error)

    def below(
        self,
        path: AnyPath = "volumes",
        on_error: OnError | None = None,
        wanted: Callable[[FileRef], bool] | None = None,
        *,
        dangling: bool = False,
    ) -> Iterator[FileRef]:
        """Yield what is at a path, and all below it; several directories are listed at a time.

        A path that is a link stands for what the link leads to; with `dangling`, for the link itself if it
        leads to nothing. What is not `wanted` is left out, a directory with all that is below it. What
        cannot be listed is passed over and its OSError given to `on_error`; without that it is raised.
        """
        return self._files.below(self._own(path), on_error, wanted, dangling=dangling)

    def soon(self, call: Callable[[], T]) -> Callable[[], T]:
        """Begin a call of a method of this set; return what waits for its value and returns it.

        On distant disks it goes on beside whatever is done until then.
        """
        return self._files.soon(call)

    def open_files(self, files: Sequence[FileRef]) -> list[FileReader | SmallFile | OSError]:
        """Open files at the same time, and ask for their first bytes; an OSError for what cannot be opened."""
        return self._files.open_files(files, keep=self)

    def places(self, files: Sequence[FileRef]) -> list[tuple[Span, ...]]:
        """Return where the bytes of each file lie on its volume; nothing where that is not known."""
        return self._files.places(files)

    def xattrs_of(
        self, files: Sequence[FileRef], *, whole: bool = False
    ) -> list[dict[str, bytes | OSError]]:
        """Return the extended attributes of files; an OSError for a value that cannot be had.

        `whole`: with those that are not listed and that a restored file should have, as NTFS has.
        """
        return self._files.xattrs_of(files, whole=whole)

    def streams(self, files: Sequence[FileRef], on_error: OnError | None = None) -> list[FileRef]:
        """Return the alternate streams of files on NTFS.

        Where they cannot be read, an OSError that names the file is given to `on_error`; without that it is
        raised.
        """
        return self._files.streams(files, on_error)

    def is_on_volume(self, file: FileRef) -> bool:
        """Say whether a file is one of a volume's, and not one of the mount's own."""
        return self._files.is_on_volume(file)

    def ignores_case(self, file: FileRef) -> bool:
        """Say whether the guest matches the names on a file's volume without regard to case."""
        return self._files.ignores_case(file)

    # Its end

    def close(self) -> None:
        """Unmount what is mounted and release the sources. A second call does nothing."""
        if self._finalizer.detach() is not None:
            self._resources.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return f"<DiskSet {self._shown}, closed>"
        size = sum(disk.size for disk in self.disks)
        counts = f"{_counted(len(self.disks), 'disk')}, {_counted(len(self.volumes), 'volume')}"
        mounted = f", mounted at {point}" if (point := self._mounting.mountpoint) else ""
        return f"<DiskSet {self._shown}: {counts}, {size} bytes{mounted}>"

    def _at(self, path: AnyPath, *, follow: bool) -> FileRef:
        """Return what is at a path: the mount's own first, else as the guest has it."""
        text = os.fspath(path)
        try:
            return self._lookup.at(text, follow=follow)
        except (FileNotFoundError, NotADirectoryError):
            own = spelling.locate(self._lookup, os.fsdecode(text))
            return self._lookup.at(own, follow=follow)

    def _own(self, path: AnyPath) -> str:
        """Return the mount's own path of what a path names."""
        return self._at(path, follow=False).path

    def _mode(self, path: AnyPath, follow: bool) -> int:
        """Return the st_mode of a file; 0 if there is none."""
        text = os.fspath(path)
        try:
            return self._lookup.at(text, follow=follow).attrs.mode
        except (FileNotFoundError, NotADirectoryError):
            pass
        try:
            found = spelling.find(self._lookup, os.fsdecode(text), patterns=False)
            return self._lookup.at(found[0], follow=follow).attrs.mode if found else 0
        except (FileNotFoundError, NotADirectoryError):
            return 0


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def open_disks(
    *sources: str | os.PathLike[str],
    options: OpenOptions | None = None,
    mountpoint: str | os.PathLike[str] | None = None,
    state_dir: str | os.PathLike[str] | None = None,
) -> DiskSet:
    """Open the disks that the sources name: VMDKs, .vmx files, raw images, URIs of NBD
    servers, https:// addresses, disks on LUNs (san:), and machines of a vCenter or host by moRef, name, UUID or inventory path:
    which server that is, the options say, or else govc's environment or the configuration file.

    What is mounted later is mounted at `mountpoint`, an empty directory; by default at one made for it
    and removed afterwards. Running mounts are recorded in `state_dir`. Raises SourceError if a source
    cannot be opened.
    """
    if not sources:
        raise SourceError("no source given")
    names = [os.fspath(source) for source in sources]
    options = options or OpenOptions()
    options = with_connection(options, names)
    mounting = Mounting(
        tuple(map(absolute, names)),
        options,
        None if mountpoint is None else Path(mountpoint),
        None if state_dir is None else Path(state_dir),
    )
    is_distant = any(recognise(name).is_remote for name in names)
    bridge: Bridge = TrioBridge() if is_distant else InlineBridge()
    journal = StateDir(Path(state_dir or default_state_dir())).journal()
    try:
        manager = bridge.run(lambda: OpenDiskSet.open(names, bridge.runtime, options, journal))
        mounting.share(manager.machines)
        return DiskSet(Resources(manager, bridge, mounting, journal))
    except BaseException:
        mounting.close()
        bridge.close()
        journal.close()
        raise
