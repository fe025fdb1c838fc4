"""Walking an NTFS volume.

Strategy: a listing tells everything about its files, so it asks for all their MFT records at once
(mft.py); what it read is kept for the opens that follow. What needs more than a file's first record (an
attribute list, a reparse point that is not in the record) is the rare case and read one at a time.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$MFT" and "Directory".
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.lru import Lru
from vmount.parsers.model import DirEntry, FileData, FilesystemInfo, Inline, XAttr
from vmount.parsers.ntfs.attribute import DATA, FILE_NAME
from vmount.parsers.ntfs.directory import Directory, NodeCache
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.file_attrs import file_attrs, quick_attrs
from vmount.parsers.ntfs.file_data import file_data, has_wrong_flags
from vmount.parsers.ntfs.file_name import DIRECTORY_BIT, DOS, FILE_NAME_KEY
from vmount.parsers.ntfs.mft import MAX_READ
from vmount.parsers.ntfs.names import collation_key, from_wtf8, to_wtf8
from vmount.parsers.ntfs.owners import Owners
from vmount.parsers.ntfs.record import INO_MASK, matches
from vmount.parsers.ntfs.security import SecurityDescriptors
from vmount.parsers.ntfs.special import SpecialFiles
from vmount.parsers.ntfs.standard_information import REPARSE, decode_standard_of
from vmount.parsers.ntfs.stream import Stream, select
from vmount.parsers.ntfs.system_xattrs import PREFIX, RESTORABLE, SystemXattrs
from vmount.parsers.ntfs.wof import STREAM as WOF_STREAM
from vmount.parsers.reader import let_others_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.model import Attrs, Ino, ReparseLink
    from vmount.parsers.notes import Notes
    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.index import IndexEntry
    from vmount.parsers.ntfs.mft import Mft
    from vmount.parsers.ntfs.options import NtfsOptions
    from vmount.parsers.ntfs.record import Record
    from vmount.parsers.reader import BlockSource

ROOT = 5
BITMAP_FILE = 6
FIRST_USER = 16
"""Files below this number are the volume's own. Windows has used 24 since 2000, NT 4 did not."""

MOST_DIRECTORIES = 1 << 14
"""In one another: Windows has paths of 32767 characters."""

_NAMES_A_TURN = (1 << 12) - 1
"""A mask: others get a turn after so many names of a listing."""
_PARENT = FILE_NAME_KEY.picker("parent", "namespace")
_TYPE = stat.S_IFMT(0xFFFF)
_new = tuple.__new__


DIRECTORY_WEIGHT = 64
"""Runs that a directory without any takes as much memory as."""

RUNS_KEPT = 1 << 16
"""Of the indexes of directories that are kept: some 10 MiB, of up to a thousand directories."""

NAMES_KEPT = 1 << 17
"""Names in all directories of which all are kept: some 40 MiB."""


class NtfsFilesystem:
    """An open NTFS volume; see `parsers.model.Filesystem` and `open_ntfs`."""

    root = ROOT
    hidden_prefix = PREFIX
    restorable = RESTORABLE

    def __init__(
        self,
        reader: BlockSource,
        boot: Boot,
        mft: Mft,
        upcase: Sequence[int] | None,
        info: FilesystemInfo,
        version: tuple[int, int],
        options: NtfsOptions,
        notes: Notes,
    ) -> None:
        self._reader = reader
        self._boot = boot
        self._mft = mft
        self._upcase = upcase
        self._show_system = options.show_system
        self._special = SpecialFiles(reader, boot)
        self._security = SecurityDescriptors(reader, boot, mft)
        self._system_xattrs = SystemXattrs(reader, boot, mft, self._security)
        self._nodes = NodeCache()
        self._directories: Lru[Ino, Directory | Corrupt] = Lru(RUNS_KEPT, _weight)
        self._names: Lru[Ino, dict[bytes, IndexEntry]] = Lru(NAMES_KEPT, len)
        """All names of directories, where the order of their indexes is not known."""
        self._notes = notes
        self._owners = (
            None if options.users is None else Owners(self._security, options.users, info.uuid)
        )
        self.info = info
        self.version = version
        """Of the format: (3, 1) since Windows XP."""

    async def attrs(self, ino: Ino) -> Attrs:
        """Return a file's attributes."""
        return await self._attrs(await self._record(ino))

    async def lookup(self, parent: Ino, name: bytes) -> Attrs | None:
        """Return the attributes of the file of this name in a directory, None if there is none.

        A DOS name is found although `listdir` does not give it.
        """
        home, directory = await self._directory(parent)
        units = from_wtf8(name)
        if units is None:
            return None
        if self._upcase is None:
            entry = (await self._all_names(parent, directory)).get(units)
            entries = [] if entry is None else [entry]
        else:
            entries = await directory.candidates(units, self._upcase)
        entries = [entry for entry in entries if self._is_shown(entry)]
        found = [entry for entry in entries if entry.name == units]
        if not found and self._upcase is not None and not self.info.case_sensitive:
            found = entries
        if not found:
            return None
        record = await self._mft.record(found[0].reference & INO_MASK)
        if not self._is_meant(found[0], record, home):
            raise Corrupt(Damage.NAME_OF_FILE_THAT_IS_GONE, actual=found[0].reference)
        return await self._attrs(record)

    async def listdir(self, ino: Ino) -> Sequence[DirEntry]:
        """Return a directory's entries with attributes, in the order of its index on the disk.

        Names in the DOS namespace are not given. An entry whose MFT record is damaged or holds another
        file by now has no attributes.
        """
        home, directory = await self._directory(ino)
        shown = [
            entry
            for entry in await directory.entries()
            if entry.namespace != DOS and self._is_shown(entry)
        ]
        records = await self._mft.records([entry.reference & INO_MASK for entry in shown])
        attrs: dict[Ino, Attrs | None] = {}
        unclear: list[Record] = []
        for index, (number, record) in enumerate(records.items()):
            if not index & _NAMES_A_TURN:
                await let_others_run(self._reader)
            if isinstance(record, ParseError):
                continue
            found = attrs[number] = quick_attrs(record)
            if found is None and record.in_use:
                unclear.append(record)
        if unclear:
            await self._mft.prepare(unclear)
            for record in unclear:
                attrs[record.ino] = await self._attrs_or_none(record)
        if self._owners is not None:
            await self._apply_owners(records, attrs)
        listing: list[DirEntry] = []
        for entry in shown:
            if not len(listing) & _NAMES_A_TURN:
                await let_others_run(self._reader)
            number = entry.reference & INO_MASK
            record = records[number]
            if isinstance(record, ParseError) or not self._is_meant(entry, record, home):
                found = None
            else:
                found = attrs[number]
            if found is not None:
                kind = found.mode & _TYPE
            else:
                kind = stat.S_IFDIR if entry.file_attributes & DIRECTORY_BIT else 0
            listing.append(_new(DirEntry, (to_wtf8(entry.name), number, kind, found)))
        return listing

    async def readlink(self, ino: Ino) -> bytes:
        """Return the target of a symbolic link or junction.

        Relative ones of Windows have "/" between names, which are in the case that the directories have
        them in. Absolute ones are text for people and for
        whoever retargets them (`reparse_link` has them taken apart): "C:/Users/x",
        "Volume{guid}/x", "//server/share/x", and "/x" from the root of the link's own volume.
        """
        record = await self._record(ino)
        attributes = await self._mft.attributes(record)
        target = await self._special.target(record, attributes)
        if target is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        point = await self._special.reparse(attributes)
        if point and point.link and point.link.relative and point.link.parts:
            above = await self._parent(record) & INO_MASK
            return b"/".join(await self.spelled(above, point.link.parts))
        return target

    async def spelled(self, start: Ino, parts: Sequence[bytes]) -> list[bytes]:
        """Return the names of a path that begins in the directory `start` in the case that they have there.

        Windows finds them in any case. From a name on that is not there they are left as they are.
        """
        found: list[bytes] = []
        here: Ino | None = start
        for part in parts:
            name = part
            try:
                if here is not None and part == b"..":
                    here = await self._parent(await self._record(here)) & INO_MASK
                elif here is not None:
                    here, name = await self._spelled_name(here, part)
            except (ParseError, FileNotFoundError, NotADirectoryError):
                here = None
            found.append(name)
        return found

    async def _spelled_name(self, parent: Ino, name: bytes) -> tuple[Ino | None, bytes]:
        """Return the file of a name, in any case, and the name as it is there; None if there is none."""
        units = from_wtf8(name)
        if units is None or self._upcase is None:
            return None, name
        _, directory = await self._directory(parent)
        entries = [e for e in await directory.candidates(units, self._upcase) if self._is_shown(e)]
        if not entries:
            return None, name
        entry = next((entry for entry in entries if entry.name == units), entries[0])
        return entry.reference & INO_MASK, to_wtf8(entry.name)

    async def reparse_link(self, ino: Ino) -> ReparseLink | None:
        """Return the target of a symbolic link or junction of Windows; None if the file is no such thing."""
        record = await self._record(ino)
        point = await self._special.reparse(await self._mft.attributes(record))
        return point.link if point else None

    async def depth(self, ino: Ino) -> int:
        """Return how many directories a file is below the root: 0 for one that is in it.

        One with several names counts by its first. Raises Corrupt for one that no way leads to.
        """
        record = await self._record(ino)
        for above in range(MOST_DIRECTORIES):
            parent = await self._parent(record)
            if parent & INO_MASK == ROOT:
                return above
            record = await self._record(parent & INO_MASK)
            if not matches(record, parent):
                raise Corrupt(Damage.PARENT_OF_FILE_IS_GONE, record.where, actual=parent)
        raise Corrupt(Damage.FILE_DIRECTORIES_LEAD_ROUND, record.where)

    async def streams(self, ino: Ino) -> Sequence[tuple[bytes, int]]:
        """Return names and sizes in bytes of a file's named streams."""
        return [(name, size) for name, size, _ in await self.stream_sizes(ino)]

    async def stream_sizes(self, ino: Ino) -> Sequence[tuple[bytes, int, int]]:
        """Return names of a file's named streams, their sizes and what they take on the disk, in bytes.

        They are in an order that does not change.
        """
        attributes = await self._mft.attributes(await self._record(ino))
        found = []
        for name, extents in _named_streams(attributes).items():
            size, _, allocated = extents[0].sizes
            found.append((to_wtf8(name), size, allocated))
        return found

    def folded(self, name: bytes) -> bytes:
        """Return what names that differ only in case have in common."""
        units = from_wtf8(name)
        if units is None or self._upcase is None:
            return name
        return struct.pack(f"<{len(units) // 2}H", *collation_key(units, self._upcase))

    async def xattrs(self, ino: Ino) -> Mapping[bytes, XAttr]:
        """Return a file's named streams as `user.` attributes, as ntfs-3g does by default.

        One that cannot be read, such as an encrypted one, has its error for a value.
        """
        attributes = await self._mft.attributes(await self._record(ino))
        found: dict[bytes, XAttr] = {}
        for name, extents in _named_streams(attributes).items():
            value: bytes | FileData | ParseError
            try:
                data = file_data(extents, self._boot)
                value = data.layout.data if isinstance(data.layout, Inline) else data
            except ParseError as error:
                value = error.with_traceback(None)
            found[b"user." + to_wtf8(name)] = XAttr(value)
        return found

    async def hidden_xattr(self, ino: Ino, name: bytes) -> bytes | None:
        """Return an attribute of ntfs-3g's own ("system.ntfs_acl"), which `xattrs` has not; None if the file
        has none of this name."""
        return await self._system_xattrs.value(name, await self._record(ino))

    async def data(self, ino: Ino, stream: bytes = b"") -> FileData:
        """Return where the bytes of a file, or of a named stream of it, are.

        Raises Unsupported for what is encrypted, or kept somewhere else by a filter driver of Windows;
        what such a driver compressed (WOF) is decompressed.
        """
        record = await self._record(ino)
        attributes = await self._mft.attributes(record)
        units = from_wtf8(stream)
        extents = [] if units is None else select(attributes, DATA, units)
        if stream:
            if not extents:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return file_data(extents, self._boot)
        special = await self._special.content(record, attributes)
        if special is not None:
            return special
        if record.is_directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not extents:
            return FileData(0, 0, Inline(b""))
        if has_wrong_flags(extents[0]):
            self._notes.add(
                f"file {ino}: its data has unknown flags, which mean nothing in a record"
            )
        return file_data(extents, self._boot)

    async def free_bytes(self) -> int:
        """Return how many bytes the volume's bitmap says are free."""
        record = await self._record(BITMAP_FILE)
        extents = select(await self._mft.attributes(record), DATA)
        if not extents:
            raise Corrupt(Damage.BITMAP_HAS_NO_DATA, record.where)
        bitmap = Stream(extents, self._boot)
        clusters = self._boot.clusters
        if bitmap.size * 8 < clusters:
            raise Corrupt(Damage.BITMAP_IS_TOO_SMALL, record.where, expected=clusters)
        used = 0
        for offset in range(0, (clusters + 7) // 8, MAX_READ):
            length = min(MAX_READ, (clusters + 7) // 8 - offset)
            bits = int.from_bytes(await bitmap.read(self._reader, offset, length), "little")
            used += (bits & (1 << min(clusters - offset * 8, length * 8)) - 1).bit_count()
        return (clusters - used) * self._boot.cluster_size

    async def _record(self, ino: Ino) -> Record:
        """Return the first record of a file."""
        record = await self._mft.record(ino)
        if not record.in_use or not record.is_first:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return record

    async def _parent(self, record: Record) -> int:
        """Return the reference of the directory that a file's first name is in."""
        for attribute in select(await self._mft.attributes(record), FILE_NAME):
            value = attribute.value
            if len(value) < FILE_NAME_KEY.size:
                raise Corrupt(Damage.SIZE_OF_FILE_NAME, record.where, actual=len(value))
            parent: int
            parent, namespace = _PARENT.unpack_from(value)
            if namespace != DOS:
                return parent
        raise Corrupt(Damage.FILE_HAS_NO_NAME, record.where)

    async def _directory(self, ino: Ino) -> tuple[Record, Directory]:
        record = await self._record(ino)
        if not record.is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        found = self._directories.get(ino)
        if found is None:
            try:
                attributes = await self._mft.attributes(record)
                found = Directory(self._reader, self._boot, attributes, ino, self._nodes)
            except Corrupt as error:
                found = error
            self._directories.put(ino, found)
        if isinstance(found, Corrupt):
            raise found.with_traceback(None)
        return record, found

    async def _all_names(self, ino: Ino, directory: Directory) -> dict[bytes, IndexEntry]:
        """Return all entries of a directory by their names; of equal ones the first."""
        names = self._names.get(ino)
        if names is None:
            names = {entry.name: entry for entry in reversed(await directory.entries())}
            self._names.put(ino, names)
        return names

    async def _attrs(self, record: Record) -> Attrs:
        attrs = await self._plain_attrs(record)
        if self._owners is None:
            return attrs
        return await self._owners.applied(attrs, await self._mft.attributes(record))

    async def _plain_attrs(self, record: Record) -> Attrs:
        """Return a file's attributes without its owner."""
        attrs = quick_attrs(record)
        if attrs is not None:
            return attrs
        attributes = await self._mft.attributes(record)
        return file_attrs(record, attributes, await self._special.look(record, attributes))

    async def _apply_owners(
        self, records: Mapping[Ino, Record | ParseError], attrs: dict[Ino, Attrs | None]
    ) -> None:
        """Give the attributes of a listing their owners and modes."""
        assert self._owners is not None
        for number, found in attrs.items():
            record = records[number]
            if found is None or isinstance(record, ParseError):
                continue
            try:
                attrs[number] = await self._owners.applied(found, record.attributes)
            except ParseError:
                attrs[number] = None

    async def _attrs_or_none(self, record: Record) -> Attrs | None:
        try:
            return await self._plain_attrs(record)
        except ParseError:
            return None

    def _is_meant(self, entry: IndexEntry, record: Record, home: Record) -> bool:
        """Tell whether a name in the directory `home` is one of the file that its record holds now."""
        if _means(entry, record, home):
            return True
        if not _has_name(entry, record, home):
            return False
        self._notes.add(
            f"directory {home.ino}: references between it and its files are damaged,"
            " the files' own names say that they belong there"
        )
        return True

    def _is_shown(self, entry: IndexEntry) -> bool:
        ino = entry.reference & INO_MASK
        return ino != ROOT and (ino >= FIRST_USER or self._show_system)


def _weight(directory: Directory | Corrupt) -> int:
    return DIRECTORY_WEIGHT + (0 if isinstance(directory, Corrupt) else directory.weight)


def _means(entry: IndexEntry, record: Record, home: Record) -> bool:
    """Tell whether a name in the directory `home` is one of the file that its record holds now."""
    return matches(record, entry.reference) and record.is_first and matches(home, entry.parent)


def _has_name(entry: IndexEntry, record: Record, home: Record) -> bool:
    """Tell whether a file says itself that it has this name in the directory `home`.

    One of three references may be damaged then: from the name to the file, from the name to the directory,
    or the number of either's record. A name that was left behind by another file is not confirmed.
    """
    if not record.in_use or not record.is_first or record.ino != entry.reference & INO_MASK:
        return False
    try:
        values = [a.value for a in record.attributes if a.type == FILE_NAME]
    except Corrupt:
        return False
    for value in values:
        if value[FILE_NAME_KEY.size :] == entry.name and len(value) > FILE_NAME_KEY.size:
            parent, _ = _PARENT.unpack_from(value)
            if matches(home, parent):
                return True
            same = parent == entry.parent and parent & INO_MASK == home.ino
            if same and matches(record, entry.reference):
                return True
    return False


def _named_streams(attributes: Sequence[Attribute]) -> dict[bytes, list[Attribute]]:
    """Return the extents of each named stream, in order; as in Windows, not the one that WOF has made."""
    hidden = {b"", WOF_STREAM} if decode_standard_of(attributes)[4] & REPARSE else {b""}
    streams: dict[bytes, list[Attribute]] = {}
    for attribute in attributes:
        if attribute.type == DATA and attribute.name not in hidden:
            streams.setdefault(attribute.name, []).append(attribute)
    return {name: select(extents, DATA, name) for name, extents in streams.items()}
