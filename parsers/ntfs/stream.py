"""An attribute put together from its extents, and how the walkers read one.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "Attribute Header" and
"$ATTRIBUTE_LIST".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.ntfs.attribute import COMPRESSED_MASK, ENCRYPTED
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.runlist import decode_runs
from vmount.parsers.runs import NO_RUNS, RunBuilder, RunList

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.reader import Reader


def select(attributes: Iterable[Attribute], kind: int, name: bytes = b"") -> list[Attribute]:
    """Return the extents of one attribute in order; none if the file does not have it."""
    found = [a for a in attributes if a.type == kind and a.name == name]
    if len(found) > 1:
        found.sort(key=_lowest_vcn)
    return found


def decode_extents(
    extents: Sequence[Attribute], boot: Boot, *, trust_sizes: bool = True
) -> RunList:
    """Return the runs of a non-resident attribute. Raises Corrupt unless its extents are complete.

    What they must hold are the valid bytes, unless the attribute's sizes are not to be trusted.
    """
    runs = RunBuilder()
    expected = 0
    for extent in extents:
        if not extent.nonresident:
            raise Corrupt(Damage.RESIDENT_EXTENT_OF_NON_RESIDENT_ATTRIBUTE, actual=extent.type)
        first, after, mapping = extent.mapping
        if first != expected:
            raise Corrupt(Damage.EXTENTS_OF_ATTRIBUTE, expected=f"VCN {expected:#x}", actual=first)
        runs.extend(decode_runs(mapping, first, after, boot.cluster_size, boot.clusters))
        expected = after
    valid = extents[0].sizes.valid if trust_sizes else 0
    if expected * boot.cluster_size < valid:
        raise Corrupt(Damage.ATTRIBUTE_HAS_FEWER_CLUSTERS_THAN_VALID_BYTES, expected=valid)
    return runs.finish()


class Stream:
    """The bytes of an attribute that a walker reads itself.

    With `trust_sizes` false its size is that of its clusters, whatever the attribute says. Raises Unsupported if it is compressed or encrypted, which such attributes are not, Corrupt.
    """

    def __init__(
        self, extents: Sequence[Attribute], boot: Boot, *, trust_sizes: bool = True
    ) -> None:
        first = extents[0]
        if first.nonresident and first.flags & (COMPRESSED_MASK | ENCRYPTED):
            raise Unsupported(f"compressed or encrypted attribute of type {first.type:#x}")
        self._value = None if first.nonresident else first.value
        self.map = NO_RUNS
        if first.nonresident:
            self.map = decode_extents(extents, boot, trust_sizes=trust_sizes)
        if trust_sizes or not first.nonresident:
            self.size, self.valid, _ = first.sizes
        else:
            self.size = self.valid = self.map.end

    async def read(self, reader: Reader, offset: int, length: int) -> bytes:
        """Read a range. Raises Corrupt where it is not all there."""
        if offset + length > self.size:
            raise Corrupt(Damage.READ_PAST_END_OF_ATTRIBUTE, expected=self.size, actual=offset)
        if self._value is not None:
            return self._value[offset : offset + length]
        stored = max(0, min(length, self.valid - offset))
        data = bytes(await self.map.read(reader, offset, stored))
        return data + bytes(length - stored)

    async def read_all(self, reader: Reader, limit: int) -> bytes:
        """Read it all. Raises Corrupt if it is larger than `limit` bytes."""
        if self.size > limit:
            raise Corrupt(
                Damage.ATTRIBUTE_IS_TOO_LARGE, expected=f"at most {limit:#x}", actual=self.size
            )
        return await self.read(reader, 0, self.size)


def _lowest_vcn(attribute: Attribute) -> int:
    return attribute.lowest_vcn
