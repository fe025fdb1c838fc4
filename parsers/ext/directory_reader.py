"""Directories: all names, or one.

Strategy: a listing reads the blocks in the order of the directory, in large reads announced together; a hash
tree needs no attention for that, its nodes hold no names. A lookup goes down the hash tree, which takes two
or three blocks; where the tree is damaged or its hash is unknown it looks through the whole directory.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right

from vmount.parsers.batch import MAX_READ
from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.ext.casefold import UTF8_12_1, fold
from vmount.parsers.ext.directory import check_tail, decode_entries
from vmount.parsers.ext.errors import Damage
from vmount.parsers.ext.features import Compat, Incompat
from vmount.parsers.ext.hash_tree import (
    TreeEntry,
    check_tree_checksum,
    decode_root,
    decode_tree_entries,
    is_node,
)
from vmount.parsers.ext.inline_data import inline_directory
from vmount.parsers.ext.inode import Inode, InodeFlag
from vmount.parsers.ext.mapping import file_runs
from vmount.parsers.ext.name_hash import HashVersion, NameHash, name_hash
from vmount.parsers.ext.no_key import MIN_ENCRYPTED, encrypted_name, no_key_name
from vmount.parsers.ext.volume import Volume
from vmount.parsers.inode_entry import InodeEntry
from vmount.parsers.lru import Lru
from vmount.parsers.reader import Span, let_others_run
from vmount.parsers.runs import RunList

BLOCKS_A_TURN = 32
"""Blocks decoded before others get a turn: some thousand names."""
MAX_DIRECTORY = 1 << 30
"""Bytes of a directory: some ten million names."""
MAX_ENTRIES = 1 << 22
"""Names in a directory: a listing of more would take gigabytes of memory."""
MAX_COLLISIONS = 64
"""Blocks with names of one hash, one after the other, that a lookup follows."""
CACHED_MAPS = 256
"""Directories whose place is remembered,"""
CACHED_PIECES = 1 << 10
"""unless they are in more pieces than this, which would take much memory."""


class DirectoryReader:
    """Reads the directories of a volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._superblock = volume.superblock
        self._maps: Lru[int, _DirectoryMap] = Lru(CACHED_MAPS)

    async def entries(self, inode: Inode) -> list[InodeEntry]:
        """Return all entries but "." and "..", of an encrypted directory with the names shown without a key.

        Raises Corrupt, and Unsupported for one that is encrypted and case-insensitive or too large.
        """
        entries = await self._stored_entries(inode)
        if not inode.flags & InodeFlag.ENCRYPT:
            return entries
        if inode.flags & InodeFlag.CASEFOLD:
            raise Unsupported(f"encryption with casefold, in directory {inode.number}")
        version = await self._shown_hash_version(inode)
        return [
            InodeEntry(
                self._no_key_name(entry.name, version, inode.where), entry.ino, entry.file_type
            )
            for entry in entries
        ]

    async def find(self, inode: Inode, name: bytes) -> int | None:
        """Return the inode number of a name as `entries` gives it, None if it is not there.

        Raises as `entries` does.
        """
        if not inode.flags & InodeFlag.ENCRYPT:
            return await self._find_stored(inode, name)
        encrypted = encrypted_name(name)
        if encrypted is None or inode.flags & InodeFlag.CASEFOLD:
            return _search(await self.entries(inode), name)
        version = await self._shown_hash_version(inode)
        if len(encrypted) < MIN_ENCRYPTED or name != self._no_key_name(encrypted, version, 0):
            return None
        return await self._find_stored(inode, encrypted)

    def _no_key_name(self, name: bytes, version: int | None, where: int) -> bytes:
        hashed = None if version is None else self._hash(version, name, guess=True)
        return no_key_name(name, where, hashed or (0, 0))

    async def _shown_hash_version(self, inode: Inode) -> int | None:
        """Return how the kernel hashes the names that it shows without a key.

        It takes small directories for hash trees too; None for the others: their names have no hash.
        """
        if not self._superblock.compat & Compat.DIR_INDEX:
            return None
        inline = inode.flags & InodeFlag.INLINE_DATA
        if self._indexed(inode) and not inline:
            data, where = await (await self._map(inode)).read_one(0)
            with contextlib.suppress(Corrupt):
                return decode_root(data, where).hash_version
            return None
        if inline or inode.attrs.size == self._volume.block_size:
            return self._superblock.default_hash_version
        return None

    async def _stored_entries(self, inode: Inode) -> list[InodeEntry]:
        """Return the entries with what fast commits have changed."""
        commits = self._volume.fast_commits
        changed = commits.names.get(inode.number, {})
        is_new = inode.number in commits.new_directories
        entries = [] if is_new else await self._blocks_entries(inode)
        if changed:
            entries = [entry for entry in entries if entry.name not in changed]
            entries += [InodeEntry(name, ino, 0) for name, ino in changed.items() if ino]
        return entries

    async def _blocks_entries(self, inode: Inode) -> list[InodeEntry]:
        if inode.flags & InodeFlag.INLINE_DATA:
            return _inline_entries(inode)
        blocks = await self._map(inode)
        entries: list[InodeEntry] = []
        for first in range(0, blocks.count, blocks.per_read):
            for index, data, where in await blocks.read(first, blocks.per_read):
                entries += self._decode(inode, index, data, where)
                if not index % BLOCKS_A_TURN:
                    await let_others_run(self._volume.reader, len(entries))
            if len(entries) > MAX_ENTRIES:
                raise Unsupported(f"a directory of more than {MAX_ENTRIES} names")
        return entries

    async def _find_stored(self, inode: Inode, name: bytes) -> int | None:
        if inode.number in self._volume.fast_commits.names:
            return _search(await self._stored_entries(inode), name, folded=self._folds(inode))
        folded = self._folds(inode)
        if inode.flags & InodeFlag.INLINE_DATA:
            return _search(_inline_entries(inode), name, folded=folded)
        blocks = await self._map(inode)
        if self._indexed(inode) and blocks.count > 1:
            with contextlib.suppress(Corrupt, Unsupported):
                ino = await self._find_hashed(inode, blocks, name)
                # The guest may fold by another version of Unicode.
                if ino is not None or not folded:
                    return ino
        found = None
        for first in range(0, blocks.count, blocks.per_read):
            for index, data, where in await blocks.read(first, blocks.per_read):
                entries = self._decode(inode, index, data, where)
                ino = _search(entries, name)
                if ino is not None:
                    return ino
                if folded and found is None:
                    found = _search(entries, name, folded=True)
        return found

    def _folds(self, inode: Inode) -> bool:
        """Tell whether a directory is case-insensitive. Raises Unsupported for an unknown encoding."""
        if not inode.flags & InodeFlag.CASEFOLD:
            return False
        if not self._superblock.has_incompat(Incompat.CASEFOLD):
            raise Corrupt(
                Damage.DIRECTORY_CASEFOLD_FLAG_IN_VOLUME_WITHOUT, inode.where, of=inode.number
            )
        if self._superblock.encoding != UTF8_12_1:
            raise Unsupported(f"casefold with encoding {self._superblock.encoding}")
        return True

    def _indexed(self, inode: Inode) -> bool:
        return bool(inode.flags & InodeFlag.INDEX and self._superblock.compat & Compat.DIR_INDEX)

    async def _map(self, inode: Inode) -> _DirectoryMap:
        known = self._maps.get(inode.number)
        if known is None:
            known = _DirectoryMap(self._volume, inode, await file_runs(self._volume, inode))
            if known.pieces <= CACHED_PIECES:
                self._maps.put(inode.number, known)
        return known

    def _decode(self, inode: Inode, index: int, data: bytes, where: int) -> list[InodeEntry]:
        """Check block `index` of a directory and return its entries."""
        if self._superblock.metadata_checksums:
            seed = inode.checksum_seed(self._superblock)
            if self._indexed(inode) and (index == 0 or is_node(data)):
                check_tree_checksum(data, where, seed, root=index == 0)
            else:
                check_tail(data, where, seed)
        return decode_entries(data, where, encrypted=bool(inode.flags & InodeFlag.ENCRYPT))

    async def _find_hashed(self, inode: Inode, blocks: _DirectoryMap, name: bytes) -> int | None:
        """Go down the hash tree. Raises Corrupt, and Unsupported if this name's hash cannot be known."""
        data, where = await blocks.read_one(0)
        root = decode_root(data, where)
        folded = self._folds(inode)
        hashes = self._hash(root.hash_version, fold(name) if folded else name)
        if hashes is None:
            raise Unsupported(f"hash of names of kind {root.hash_version}")
        hashed = hashes.major
        path = [_Step(self._node(inode, data, where, root=True), hashed)]
        for _ in range(root.levels):
            data, where = await blocks.read_one(path[-1].block)
            path.append(_Step(self._node(inode, data, where, root=False), hashed))
        for _ in range(MAX_COLLISIONS):
            index = path[-1].block
            data, where = await blocks.read_one(index)
            ino = _search(self._decode(inode, index, data, where), name, folded=folded)
            if ino is not None:
                return ino
            if not await self._advance(inode, blocks, path, hashed):
                return None
        raise Corrupt(Damage.INODE_TOO_MANY_NAMES_OF_ONE_HASH, of=inode.number)

    def _hash(self, version: int, name: bytes, *, guess: bool = False) -> NameHash | None:
        """Return the hashes of a name if they can be known; with `guess` as a kernel for x86 takes it if the
        volume does not say."""
        unsigned = self._superblock.hash_unsigned
        if unsigned is None and not name.isascii() and not guess:
            return None
        if unsigned and version <= HashVersion.TEA:
            version += HashVersion.LEGACY_UNSIGNED
        if version not in _KNOWN_VERSIONS:
            return None
        return name_hash(HashVersion(version), name, self._superblock.hash_seed)

    def _node(self, inode: Inode, data: bytes, where: int, *, root: bool) -> list[TreeEntry]:
        if self._superblock.metadata_checksums:
            seed = inode.checksum_seed(self._superblock)
            check_tree_checksum(data, where, seed, root=root)
        return decode_tree_entries(data, where, root=root)

    async def _advance(
        self, inode: Inode, blocks: _DirectoryMap, path: list[_Step], hashed: int
    ) -> bool:
        """Move `path` to the next block of entries if that one has names of the same hash."""
        depth = len(path) - 1
        while depth >= 0 and path[depth].last:
            depth -= 1
        if depth < 0 or path[depth].following != hashed | 1:
            return False
        path[depth].position += 1
        for level in range(depth + 1, len(path)):
            data, where = await blocks.read_one(path[level - 1].block)
            path[level] = _Step(self._node(inode, data, where, root=False), 0)
        return True


_KNOWN_VERSIONS = frozenset(HashVersion)


class _Step:
    """A node on the way down and the child that was taken."""

    def __init__(self, entries: list[TreeEntry], hashed: int) -> None:
        self._entries = entries
        # The last child that starts at or before the hash; the first has no lower bound.
        self.position = max(0, bisect_right(entries, hashed, key=lambda entry: entry.hash) - 1)

    @property
    def block(self) -> int:
        return self._entries[self.position].block

    @property
    def last(self) -> bool:
        return self.position + 1 == len(self._entries)

    @property
    def following(self) -> int:
        return self._entries[self.position + 1].hash


class _DirectoryMap:
    """The blocks of one directory."""

    def __init__(self, volume: Volume, inode: Inode, runs: RunList) -> None:
        self._volume = volume
        self._runs = runs
        self._ino = inode.number
        block_size = volume.block_size
        size = inode.attrs.size
        if size % block_size or not size:
            raise Corrupt(
                Damage.DIRECTORY_SIZE,
                inode.where,
                of=inode.number,
                expected=f"a multiple of {block_size}",
                actual=size,
            )
        if size > MAX_DIRECTORY:
            raise Unsupported(f"a directory of more than {MAX_DIRECTORY} bytes")
        end = 0
        for start, length in sorted((run.start or 0, run.length) for run in runs):
            if start == 0:
                raise Corrupt(Damage.DIRECTORY_HAS_HOLE, inode.where, of=inode.number)
            if start < end:
                raise Corrupt(Damage.DIRECTORY_HAS_BLOCK_TWICE, start, of=inode.number)
            end = start + length
        self.count = size // block_size
        self.per_read = max(1, 16 * MAX_READ // block_size)
        """Blocks to be read together, which bounds the memory for them."""
        self._starts = [run.offset for run in runs]
        self.pieces = len(runs)

    async def read(self, first: int, count: int) -> list[tuple[int, bytes, int]]:
        """Return (index, bytes, offset in the volume) of blocks `first` to `first` + `count` - 1, as far as
        the directory goes."""
        block_size = self._volume.block_size
        spans = self._spans(first * block_size, min(count, self.count - first) * block_size)
        pieces = await self._volume.read_ranges(spans)
        blocks = []
        index = first
        offsets = (
            span.offset + position
            for span in spans
            for position in range(0, span.length, block_size)
        )
        for piece in pieces:
            for position in range(0, len(piece), block_size):
                blocks.append((index, piece[position : position + block_size], next(offsets)))
                index += 1
        return blocks

    async def read_one(self, index: int) -> tuple[bytes, int]:
        """Return a block and its offset in the volume. Raises Corrupt if the directory ends before."""
        if index >= self.count:
            raise Corrupt(
                Damage.DIRECTORY_BLOCK_NUMBER_IN_HASH_TREE,
                of=self._ino,
                expected=f"below {self.count:#x}",
                actual=index,
            )
        [(_, data, where)] = await self.read(index, 1)
        return data, where

    def _spans(self, offset: int, length: int) -> list[Span]:
        spans = []
        position, end = offset, offset + length
        index = bisect_right(self._starts, offset) - 1
        while position < end:
            run = self._runs[index]
            assert run.start is not None
            part = min(end, run.offset + run.length) - position
            spans.append(Span(run.start + position - run.offset, part))
            position += part
            index += 1
        return spans


def _inline_entries(inode: Inode) -> list[InodeEntry]:
    encrypted = bool(inode.flags & InodeFlag.ENCRYPT)
    return [
        entry
        for piece in inline_directory(inode)
        for entry in decode_entries(piece, inode.where, encrypted=encrypted)
    ]


def _search(entries: list[InodeEntry], name: bytes, *, folded: bool = False) -> int | None:
    """Return the inode number of a name, or with `folded` of another spelling of it if it is not there."""
    for entry in entries:
        if entry.name == name:
            return entry.ino
    if folded:
        wanted = fold(name)
        for entry in entries:
            if fold(entry.name) == wanted:
                return entry.ino
    return None
