"""What every Filesystem does. A test module inherits FilesystemContract and gives two fixtures."""

from __future__ import annotations

import errno
import stat
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.support.parsers.reading import tree
from vmount.blocks.file_map import open_file
from vmount.parsers.errors import Unsupported
from vmount.parsers.model import MAX_INO

if TYPE_CHECKING:
    from vmount.parsers.model import Attrs, Filesystem
    from vmount.parsers.reader import BlockSource

MOST_FILES = 2000
LARGEST_READ = 4 << 20
"""Bytes that are read of a file."""
MISSING = b"no file of this name"


async def first(filesystem: Filesystem, kind: int) -> Attrs:
    """Return the first file of a kind; skip the test if there is none."""
    async for _, attrs in tree(filesystem):
        if stat.S_IFMT(attrs.mode) == kind:
            return attrs
    pytest.skip("this volume has no file of the kind")


class FilesystemContract:
    """Fixtures wanted: `filesystem`, open, and `source`, the volume; there is a file on it."""

    def test_info(self, filesystem: Filesystem, source: BlockSource) -> None:
        info = filesystem.info
        assert info.fstype
        assert 0 <= info.free <= info.size
        assert info.size > 0
        assert info.block_size.bit_count() == 1
        assert all(warning.strip() for warning in info.warnings)

    async def test_the_root_is_a_directory(self, filesystem: Filesystem) -> None:
        attrs = await filesystem.attrs(filesystem.root)
        assert stat.S_ISDIR(attrs.mode)
        assert attrs.ino == filesystem.root <= MAX_INO

    async def test_listings_are_whole_and_in_one_order(self, filesystem: Filesystem) -> None:
        count = 0
        async for path, attrs in tree(filesystem):  # compares listdir, lookup and attrs
            count += 1
            if count > MOST_FILES:
                break
            if stat.S_ISDIR(attrs.mode):
                names = [entry.name for entry in await filesystem.listdir(attrs.ino)]
                assert names == [entry.name for entry in await filesystem.listdir(attrs.ino)]
                assert len(set(names)) == len(names), path
                assert not {b"", b".", b".."} & set(names), path
                assert not any(b"/" in name or b"\0" in name for name in names), path
        assert count > 1

    async def test_every_file_opens_and_reads_to_its_end(
        self, filesystem: Filesystem, source: BlockSource
    ) -> None:
        files = [file async for file in tree(filesystem)]
        regular = [attrs for _, attrs in files if stat.S_ISREG(attrs.mode)]
        assert regular
        opened = 0
        for attrs in islice(regular, 200):
            try:
                data = await filesystem.data(attrs.ino)
            except Unsupported:
                continue
            opened += 1
            assert data.size == attrs.size
            assert 0 <= data.valid <= data.size
            content = open_file(source, data)
            length = min(data.size, LARGEST_READ)
            assert len(await content.read(0, length)) == length
            assert len(await content.read(data.size - length, length + 1)) == length
            assert len(await content.read(data.size, 1)) == 0
        assert opened

    async def test_links_have_targets(self, filesystem: Filesystem) -> None:
        link = await first(filesystem, stat.S_IFLNK)
        target = await filesystem.readlink(link.ino)
        assert target
        assert b"\0" not in target

    async def test_names_of_extended_attributes(self, filesystem: Filesystem) -> None:
        async for path, attrs in tree(filesystem):
            for name in await filesystem.xattrs(attrs.ino):
                assert name.partition(b".")[2], (path, name)

    async def test_a_missing_name(self, filesystem: Filesystem) -> None:
        assert await filesystem.lookup(filesystem.root, MISSING) is None

    async def test_a_file_is_no_directory(self, filesystem: Filesystem) -> None:
        file = await first(filesystem, stat.S_IFREG)
        with pytest.raises(NotADirectoryError):
            await filesystem.listdir(file.ino)
        with pytest.raises(NotADirectoryError):
            await filesystem.lookup(file.ino, MISSING)

    async def test_a_file_is_no_link(self, filesystem: Filesystem) -> None:
        file = await first(filesystem, stat.S_IFREG)
        with pytest.raises(OSError) as raised:
            await filesystem.readlink(file.ino)
        assert raised.value.errno == errno.EINVAL

    async def test_a_directory_has_no_bytes(self, filesystem: Filesystem) -> None:
        with pytest.raises(OSError) as raised:
            await filesystem.data(filesystem.root)
        assert raised.value.errno in (errno.EISDIR, errno.EINVAL)
