"""Looking up keys and values in a hive.

Strategy: a hive may have 100 MB, and a question is answered by a few dozen cells of it; so pages of 4 KiB
are read as they are needed and some are kept. Nothing refers back: keys are found from the root downwards
and a list of subkeys is a leaf or an index of leaves, so a loop on the disk is a path that ends with the
caller's. A list is bounded by the number of keys that the hive has room for.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.lru import Lru
from vmount.parsers.reader import check_bounds
from vmount.parsers.registry.base_block import BASE_BLOCK, BINS_START, BaseBlock, decode_base_block
from vmount.parsers.registry.cells import (
    BIG_DATA_SEGMENT,
    KEY,
    Key,
    SubkeyList,
    ValueCell,
    decode_big_data,
    decode_key,
    decode_offsets,
    decode_subkey_list,
    decode_value,
    name_hash,
    upper,
)
from vmount.parsers.registry.value import Value

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer, Reader

PAGE = 4096
PAGES_KEPT = 1024

LARGEST_CELL = 1 << 20
"""Bytes: Windows makes none larger; what is larger is cut in pieces (big data)."""
LARGEST_VALUE = 16 << 20
"""Bytes of data, of one value or all of a key, that are held in memory; what is asked for here has a few
hundred."""
MOST_SUBKEYS = 1 << 17
"""Of one key. The key with most, of all the classes of a system's components, has some ten thousands."""
MOST_VALUES = LARGEST_CELL // 4
"""Of one key: their list is one cell."""

_cell_size = struct.Struct("<i")


async def open_hive(reader: Reader) -> Hive:
    """Open a hive. Raises NotRecognised if the file is none, Corrupt, Unsupported."""
    if reader.size < BINS_START:
        check_bounds(0, BINS_START, reader.size)
    base = decode_base_block(await reader.read(0, BASE_BLOCK.size))
    return Hive(reader, base)


class Hive:
    """An open hive."""

    def __init__(self, reader: Reader, base: BaseBlock) -> None:
        self.base = base
        self._reader = reader
        # A truncated file still answers for the part that exists.
        self._end = min(reader.size, BINS_START + base.bins_size)
        self._most_keys = min(base.bins_size // KEY.size, MOST_SUBKEYS)
        self._pages: Lru[int, Buffer] = Lru(PAGES_KEPT)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its reader should know, one sentence each."""
        texts = []
        if self.base.is_dirty:
            texts.append("its latest changes are in transaction logs, which are not replayed")
        if self._end < BINS_START + self.base.bins_size:
            texts.append("it is truncated")
        return tuple(texts)

    async def root(self) -> Key:
        """Return the root key."""
        return await self._key(self.base.root)

    async def find(self, path: str) -> Key | None:
        r"""Return the key at a path ("Microsoft\Windows NT"), None if there is none."""
        key: Key | None = await self.root()
        for name in path.split("\\"):
            if key is not None and name:
                key = await self.subkey(key, name)
        return key

    async def subkey(self, key: Key, name: str) -> Key | None:
        """Return the subkey of this name in any case, None if there is none."""
        wanted, wanted_hash = upper(name), name_hash(name)
        # Characters beyond ASCII may be upper-cased differently on the guest.
        by_hash = name.isascii()
        async for leaf in self._leaves(key):
            hashes = leaf.hashes if by_hash else None
            for index, offset in enumerate(leaf.offsets):
                if hashes is None or hashes[index] == wanted_hash:
                    found = await self._key(offset)
                    if upper(found.name) == wanted:
                        return found
        return None

    async def subkeys(self, key: Key) -> list[Key]:
        """Return all subkeys in their order."""
        return [
            await self._key(offset) async for leaf in self._leaves(key) for offset in leaf.offsets
        ]

    async def value(self, key: Key, name: str) -> Value | None:
        """Return the value of this name in any case, None if there is none."""
        wanted = upper(name)
        for offset in await self._value_offsets(key):
            cell = decode_value(await self._cell(offset), offset)
            if upper(cell.name) == wanted:
                return await self._complete(cell)
        return None

    async def values(self, key: Key) -> list[Value]:
        """Return all values of a key in their order."""
        cells = [
            decode_value(await self._cell(offset), offset)
            for offset in await self._value_offsets(key)
        ]
        if sum(cell.size for cell in cells) > LARGEST_VALUE:
            raise Unsupported(f"more than {LARGEST_VALUE} bytes in the values of a registry key")
        return [await self._complete(cell) for cell in cells]

    async def _key(self, offset: int) -> Key:
        return decode_key(await self._cell(offset), offset)

    async def _leaves(self, key: Key) -> AsyncIterator[SubkeyList]:
        """Yield the leaves with the subkeys of a key."""
        if not key.subkey_count:
            return
        if key.subkey_count > self._most_keys:
            raise Corrupt(
                "number of subkeys", key.where, expected=self._most_keys, actual=key.subkey_count
            )
        left = key.subkey_count
        top = decode_subkey_list(await self._cell(key.subkeys), key.subkeys)
        for offset in top.offsets if top.kind == b"ri" else (key.subkeys,):
            leaf = top
            if top.kind == b"ri":
                leaf = decode_subkey_list(await self._cell(offset), offset)
            left -= len(leaf.offsets)
            if leaf.kind == b"ri" or not leaf.offsets or left < 0:
                raise Corrupt("list of subkeys", offset, expected=f"{key.subkey_count} in all")
            yield leaf

    async def _value_offsets(self, key: Key) -> tuple[int, ...]:
        if not key.value_count:
            return ()
        if key.value_count > MOST_VALUES:
            raise Corrupt(
                "number of values", key.where, expected=MOST_VALUES, actual=key.value_count
            )
        return decode_offsets(await self._cell(key.values), key.value_count)

    async def _complete(self, cell: ValueCell) -> Value:
        """Return a value with its data."""
        name, kind, size, inline, data = cell
        if inline is not None:
            return Value(name, kind, inline)
        if size == 0:
            return Value(name, kind, b"")
        if size > LARGEST_VALUE:
            raise Unsupported(f"a registry value of {size} bytes")
        content = await self._cell(data)
        # Before version 1.4 every value is in one cell.
        if size > BIG_DATA_SEGMENT and self.base.version >= (1, 4):
            content = await self._big_data(content, data, size)
        if size > len(content):
            raise Corrupt("size of a value", data, expected=len(content), actual=size)
        return Value(name, kind, bytes(content[:size]))

    async def _big_data(self, cell: Buffer, where: int, size: int) -> bytes:
        count, segments = decode_big_data(cell, where)
        wanted = -(-size // BIG_DATA_SEGMENT)
        if count != wanted:
            raise Corrupt("number of segments", where, expected=wanted, actual=count)
        parts = []
        for offset in decode_offsets(await self._cell(segments), count):
            parts.append(bytes((await self._cell(offset))[:BIG_DATA_SEGMENT]))
        return b"".join(parts)

    async def _cell(self, offset: int) -> Buffer:
        """Return the content of a cell in use. Errors count from the start of the hive bins."""
        start = BINS_START + offset
        if offset % 8 or start + 8 > self._end:
            raise Corrupt("offset of a cell", actual=offset)
        (size,) = _cell_size.unpack(await self._read(start, 4))
        length = -size
        if not 8 <= length <= LARGEST_CELL or start + length > self._end:
            raise Corrupt("size of a cell", offset, actual=size)
        return await self._read(start + 4, length - 4)

    async def _read(self, offset: int, length: int) -> Buffer:
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        if first == last:
            page = await self._page(first)
            return page[offset % PAGE : offset % PAGE + length]
        if last - first > 1:
            return await self._reader.read(offset, length)
        both = bytes(await self._page(first)) + bytes(await self._page(last))
        return both[offset % PAGE : offset % PAGE + length]

    async def _page(self, number: int) -> Buffer:
        page = self._pages.get(number)
        if page is None:
            length = min(PAGE, self._end - number * PAGE)
            page = await self._reader.read(number * PAGE, length)
            self._pages.put(number, page)
        return page
