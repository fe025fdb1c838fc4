"""What every FileMap does. A test module inherits FileMapContract and gives two fixtures."""

from __future__ import annotations

import random

import pytest

from vmount.blocks.file_map import FileMap

SEED = 20261
READS = 120


class FileMapContract:
    """Fixtures wanted: `file_map`, open, and `content`, its bytes."""

    def test_size(self, file_map: FileMap, content: bytes) -> None:
        assert file_map.size == len(content)

    @pytest.mark.requirement("R24")
    async def test_random_ranges(self, file_map: FileMap, content: bytes) -> None:
        chance = random.Random(SEED)
        for _ in range(READS):
            offset = chance.randrange(len(content) + 1)
            length = chance.choice([0, 1, 7, 511, 4096, len(content)])
            expected = content[offset : offset + length]
            at_once = file_map.try_read(offset, length)
            assert at_once is None or bytes(at_once) == expected, f"{length} at {offset}"
            assert bytes(await file_map.read(offset, length)) == expected, f"{length} at {offset}"
            again = file_map.try_read(offset, length)
            assert again is None or bytes(again) == expected, f"{length} at {offset}"

    @pytest.mark.requirement("R23")
    async def test_the_end(self, file_map: FileMap, content: bytes) -> None:
        size = len(content)
        for offset, length in ((size, 10), (size + 1, 10), (size - 1, 100), (1 << 60, 1)):
            expected = content[offset : offset + length]
            at_once = file_map.try_read(offset, length)
            assert at_once is None or bytes(at_once) == expected
            assert bytes(await file_map.read(offset, length)) == expected

    def test_spans_leave_out_nothing_but_zeros(self, file_map: FileMap, content: bytes) -> None:
        position = 0
        for offset, length in file_map.spans():
            assert offset >= position
            assert length > 0
            assert not any(content[position:offset])
            position = offset + length
        assert position <= len(content)
        assert not any(content[position:])

    def test_where_never_fails(self, file_map: FileMap, content: bytes) -> None:
        size = len(content)
        for offset, length in ((0, size), (size // 2, size), (size, 0), (size + 5, 5), (0, 1)):
            for place in file_map.where(offset, length):
                assert place.offset >= 0
                assert place.length >= 0
