"""Finding the superblock of an MD member."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, NotRecognised
from vmount.parsers.md import superblock_1, superblock_90
from vmount.parsers.reader import Span

if TYPE_CHECKING:
    from vmount.parsers.md.member import MdMember
    from vmount.parsers.reader import Reader


async def read_md_member(reader: Reader) -> MdMember:
    """Return what a device says of its array.

    Raises NotRecognised if it has no superblock, Corrupt if the only ones are damaged. Of several, left
    from earlier arrays, the one written last counts.
    """
    places = [(version, where) for version, where in superblock_1.places(reader.size).items()]
    old = superblock_90.place(reader.size)
    if old is not None:
        places.append(("0.90", old))
    places = [(version, where) for version, where in places if where + 4096 <= reader.size]
    reader.prefetch([Span(where, 4096) for _, where in places])
    found: MdMember | None = None
    damage: Corrupt | None = None
    for version, where in places:
        try:
            member = await _read(reader, version, where)
        except NotRecognised:
            continue
        except Corrupt as error:
            damage = error
            continue
        if found is None or member.updated > found.updated:
            found = member
    if found is not None:
        return found
    raise damage or NotRecognised("not an MD superblock")


async def _read(reader: Reader, version: str, where: int) -> MdMember:
    data = bytes(await reader.read(where, 4096))
    if version == "0.90":
        return superblock_90.decode(data, where)
    member, log = superblock_1.decode(data, version, where)
    if log is None:
        return member
    shift = superblock_1.bad_block_shift(data)
    entries = superblock_1.decode_bad_blocks(await reader.read(*log), shift)
    return replace(member, bad_blocks=entries)
