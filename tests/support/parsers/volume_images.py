"""The images of fixtures/lvm_md.py, and what the kernel read from them."""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tests.support.paths import ROOT
from vmount.blocks.assembly import build_source
from vmount.parsers.reader import BlockSource, BytesReader, Span, run_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vmount.parsers.reader import Buffer
    from vmount.parsers.volume_map import VolumeMap

IMAGES = ROOT / "fixtures" / "images"
MANY_BLOCKS = 40_000_000_000
"""Bytes: of volumes larger than this, fixtures/lvm_md.py hashed samples."""


@dataclass(frozen=True)
class Read:
    """What the kernel read of a volume."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Image:
    """Members that belong together."""

    members: dict[str, bytes]
    read: dict[tuple[int, ...], dict[str, Read]]
    """By the members left out: what the kernel read, of the volumes that it could."""

    def sources(self, left_out: Sequence[int] = ()) -> dict[str, BytesReader]:
        """Return the members that are there."""
        return {
            name: BytesReader(data)
            for number, (name, data) in enumerate(self.members.items())
            if number not in left_out
        }


@cache
def load(group: str) -> Image:
    """Unpack an image."""
    described = json.loads((IMAGES / f"{group}.json").read_text())
    data = lzma.decompress((IMAGES / f"{group}.xz").read_bytes())
    members, position = {}, 0
    for number, size in enumerate(described["members"]):
        members[f"{group}-{number}"] = data[position : position + size]
        position += size
    read = {
        () if key == "all" else tuple(map(int, key.split(","))): {
            name.rpartition("/")[2]: Read(item["size"], item["sha256"])
            for name, item in volumes.items()
        }
        for key, volumes in described["read"].items()
    }
    return Image(members, read)


def builder(devices: dict[str, BytesReader]) -> Callable[[VolumeMap], BlockSource]:
    """Return what makes mappings over these devices readable."""
    sources: dict[str, BlockSource] = dict(devices)
    return lambda mapping: build_source(mapping, sources)


def digest(source: BlockSource) -> str:
    """Read a volume as fixtures/lvm_md.py had it read; return the SHA-256."""
    if source.size > 1_000_000_000_000:
        spans = [Span(at << 16, 1 << 16) for at in (0, 1000, 16383, 100000, 16777215)]
    elif source.size > MANY_BLOCKS:
        spans = [Span(at * at * 31 << 12, 1 << 12) for at in range(160)]
    else:
        step = 1_000_003
        spans = [Span(at, min(step, source.size - at)) for at in range(0, source.size, step)]
    state = hashlib.sha256()
    for span in spans:
        state.update(run_sync(source.read(*span)))
    return state.hexdigest()


class CountingReader(BytesReader):
    """Bytes in memory that may be read only so often."""

    def __init__(self, data: Buffer, most: int) -> None:
        super().__init__(data)
        self.left = most

    def try_read(self, offset: int, length: int) -> Buffer:
        self.left -= 1
        assert self.left > 0, "too many reads"
        return super().try_read(offset, length)
