"""The up-case table: which names are the same, and the hash by which they are found.

Source: the specification, section 7.2 (the table) and 7.6.4 (the hash).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt
from vmount.parsers.fat.names import fold

if TYPE_CHECKING:
    from vmount.parsers.reader import Buffer

UNITS = 0x10000
MAX_TABLE = 2 * UNITS
"""Bytes of a table that is not compressed."""

_SAME = 0xFFFF
"""Followed by a number of units that are their own upper case."""


class Upcase:
    """Upper case as a volume has it; without its table, as Unicode has it."""

    def __init__(self, mapping: dict[int, int] | None) -> None:
        self._mapping = mapping

    def fold(self, name: str) -> str:
        """Return what names are compared by."""
        return fold(name) if self._mapping is None else name.translate(self._mapping)

    def name_hash(self, folded: str) -> int:
        """Return the hash of a name in upper case."""
        total = 0
        for byte in folded.encode("utf-16-le", "surrogatepass"):
            total = ((total << 15 | total >> 1) + byte) & 0xFFFF
        return total


def decode_upcase(table: Buffer, checksum: int) -> Upcase:
    """Decode a table. Raises Corrupt if it is damaged."""
    actual = table_checksum(table)
    if actual != checksum:
        raise Corrupt("checksum of the up-case table", expected=checksum, actual=actual)
    mapping: dict[int, int] = {}
    units = memoryview(bytes(table)[: len(table) & ~1]).cast("H")
    unit = at = 0
    while at < len(units):
        value = units[at]
        at += 1
        if value == _SAME and at < len(units):
            unit += units[at]
            at += 1
        else:
            if value != unit:
                mapping[unit] = value
            unit += 1
        if unit > UNITS:
            raise Corrupt("up-case table with too many units", actual=unit)
    return Upcase(mapping)


def table_checksum(table: Buffer) -> int:
    """Return the checksum of a table."""
    total = 0
    for byte in table:
        total = ((total << 31 | total >> 1) + byte) & 0xFFFF_FFFF
    return total
