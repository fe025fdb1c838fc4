"""The master file table: finding and reading MFT records.

Strategy: whoever needs many records asks for all of them at once. Their places are computed, neighbours
are joined into large reads that the reader hears of before the first is awaited, and the records of one
read have their fix-ups checked together. Decoded records are kept, so that opening a file after its
directory was listed reads nothing.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$MFT" and "$MFTMirr".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.lru import Lru
from vmount.parsers.notes import Notes
from vmount.parsers.ntfs import attribute_list
from vmount.parsers.ntfs.attribute import ATTRIBUTE_LIST, DATA
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.fixup import restore, restore_all
from vmount.parsers.ntfs.record import INO_MASK, MAGIC, decode_record, matches
from vmount.parsers.ntfs.runlist import decode_runs
from vmount.parsers.ntfs.stream import Stream, select
from vmount.parsers.reader import Span
from vmount.parsers.runs import RunBuilder, RunList

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vmount.parsers.model import Run
    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.record import Record
    from vmount.parsers.reader import Reader

MAX_READ = 1 << 20
"""Bytes asked for at once."""

MAX_GAP = 32 << 10
"""Bytes read for nothing between two wanted records rather than asking twice: over a network they take
less time than another request."""

KEPT_RECORDS = 16384
"""About 1.5 KiB of memory each."""


class _Batch(NamedTuple):
    """Records read together, from one run."""

    offset: int
    """In the volume."""
    first: int
    inos: list[int]


class _Part:
    """One of the records of a file that needs several."""

    def __init__(self, found: Record | ParseError, base: Record) -> None:
        if isinstance(found, ParseError):
            raise found
        if found is not base and not matches(base, found.base):
            raise Corrupt(Damage.MFT_RECORD_BELONGS_TO_ANOTHER_FILE, found.where, actual=found.ino)
        self._record = found
        self._attributes = {(a.instance, a.type): a for a in found.attributes}

    def listed(self, entry: attribute_list.ListEntry) -> Attribute:
        """Return the attribute that an entry of the list means. Raises Corrupt."""
        where = self._record.where
        if not matches(self._record, entry.reference):
            raise Corrupt(Damage.ATTRIBUTE_LIST_NAMES_RECORD_OF_ANOTHER_FILE, where)
        attribute = self._attributes.get((entry.instance, entry.type))
        if attribute is None or attribute.lowest_vcn != entry.lowest_vcn:
            raise Corrupt(Damage.ATTRIBUTE_IS_NOT_WHERE_LIST_SAYS, where, actual=entry.type)
        return attribute


class Mft:
    """The records of a volume."""

    def __init__(self, reader: Reader, boot: Boot, runs: Sequence[Run], size: int) -> None:
        self._reader = reader
        self._boot = boot
        self._size = boot.record_size
        self._map = RunList.of(runs)
        self.count = size // boot.record_size
        self._kept: Lru[int, Record] = Lru(KEPT_RECORDS)
        self.notes = Notes("NTFS volume")
        """Of what is damaged and can be done without."""

    async def record(self, ino: int) -> Record:
        """Return a record. Raises Corrupt."""
        found = self._kept.get(ino) or (await self.records((ino,)))[ino]
        if isinstance(found, ParseError):
            raise found
        return found

    async def records(self, inos: Iterable[int]) -> dict[int, Record | ParseError]:
        """Return records by number, or for those that cannot be decoded the reason."""
        kept = self._kept
        found: dict[int, Record | ParseError] = {}
        missing: list[int] = []
        for ino in inos:
            record = kept.get(ino)
            if record is None:
                missing.append(ino)
            else:
                found[ino] = record
        if missing:
            await self._load(missing, found)
        return found

    async def attributes(self, record: Record) -> list[Attribute]:
        """Return all attributes of a file, given its first record. Raises Corrupt."""
        attributes = record.attributes
        lists = select(attributes, ATTRIBUTE_LIST)
        if not lists:
            return attributes
        content = await Stream(lists, self._boot).read_all(self._reader, attribute_list.MAX_SIZE)
        listed = attribute_list.decode_attribute_list(content)
        others = {entry.reference & INO_MASK for entry in listed} - {record.ino}
        found = await self.records(others)
        found[record.ino] = record
        parts = {ino: _Part(other, record) for ino, other in found.items()}
        return [
            parts[entry.reference & INO_MASK].listed(entry)
            for entry in listed
            if entry.type != ATTRIBUTE_LIST
        ]

    async def prepare(self, records: Iterable[Record]) -> None:
        """Read the further records of files that need several, as far as their first ones name them."""
        others: set[int] = set()
        for record in records:
            try:
                lists = select(record.attributes, ATTRIBUTE_LIST)
                if lists and not lists[0].nonresident:
                    listed = attribute_list.decode_attribute_list(lists[0].value)
                    others.update(entry.reference & INO_MASK for entry in listed)
            except ParseError:
                continue
        await self.records(others)

    async def _load(self, missing: list[int], found: dict[int, Record | ParseError]) -> None:
        batches = self._batches(sorted(set(missing)), found)
        size = self._size
        self._reader.prefetch(
            [Span(batch.offset, (batch.inos[-1] - batch.first + 1) * size) for batch in batches]
        )
        for batch in batches:
            await self._load_batch(batch, found)
        self._keep(found)

    def _batches(self, inos: Sequence[int], found: dict[int, Record | ParseError]) -> list[_Batch]:
        """Group record numbers in rising order into reads."""
        size = self._size
        batches: list[_Batch] = []
        run_end = first = last = limit = 0
        for ino in inos:
            offset = ino * size
            if offset + size <= run_end and offset - last <= MAX_GAP and offset < limit:
                batches[-1].inos.append(ino)
                last = offset + size
                continue
            if ino >= self.count:
                found[ino] = Corrupt(
                    Damage.MFT_RECORD_NUMBER, expected=f"below {self.count}", actual=ino
                )
                continue
            try:
                run = self._map[self._map.which(offset)]
            except ParseError as error:
                found[ino] = error
                continue
            if run.start is None:
                found[ino] = Corrupt(Damage.MFT_RECORD_IN_HOLE, actual=ino)
                continue
            run_end = run.offset + run.length
            first, last, limit = ino, offset + size, offset + MAX_READ
            batches.append(_Batch(run.start + offset - run.offset, first, [ino]))
        return batches

    async def _load_batch(self, batch: _Batch, found: dict[int, Record | ParseError]) -> None:
        offset, first, inos = batch
        size = self._size
        length = (inos[-1] - first + 1) * size
        try:
            # The map, not the batch's offset: where clusters are smaller than a record, it may be in pieces.
            records = bytearray(await self._map.read(self._reader, first * size, length))
        except ParseError as error:
            if len(inos) == 1:
                found[first] = error
                return
            for ino in inos:
                await self._load_batch(_Batch(offset + (ino - first) * size, ino, [ino]), found)
            return
        whole = restore_all(records, size, MAGIC)
        data = bytes(records)
        for ino in inos:
            at = (ino - first) * size
            try:
                if whole:
                    found[ino] = decode_record(data, at, size, ino, offset + at)
                else:
                    record = records[at : at + size]
                    if not restore(record, MAGIC, offset + at):
                        self.notes.add(f"MFT record {ino}: the place of its fix-ups is damaged")
                    found[ino] = decode_record(bytes(record), 0, size, ino, offset + at)
            except ParseError as error:
                found[ino] = error

    def _keep(self, found: dict[int, Record | ParseError]) -> None:
        kept = self._kept
        for ino, record in found.items():
            if not isinstance(record, ParseError):
                kept.put(ino, record)


async def open_mft(reader: Reader, boot: Boot, offset: int) -> Mft:
    """Open the table whose first record is at `offset`: that record says where the others are.

    Raises Corrupt.
    """
    first = bytearray(await reader.read(offset, boot.record_size))
    restore(first, MAGIC, offset)
    record = decode_record(bytes(first), 0, boot.record_size, 0, offset)
    data = select(record.attributes, DATA)
    if not record.in_use or not data or not data[0].nonresident or data[0].lowest_vcn:
        raise Corrupt(Damage.MFT_HAS_NO_DATA, offset)
    size = data[0].sizes.valid
    _, after, mapping = data[0].mapping
    runs = RunBuilder()
    runs.extend(decode_runs(mapping, 0, after, boot.cluster_size, boot.clusters))
    mft = Mft(reader, boot, runs.so_far(), size)
    lists = select(record.attributes, ATTRIBUTE_LIST)
    if lists:
        content = await Stream(lists, boot).read_all(reader, attribute_list.MAX_SIZE)
        listed = attribute_list.decode_attribute_list(content)
        # Each part of the table says where the next is: in rising order, what is needed is there.
        for entry in sorted(listed, key=lambda entry: entry.lowest_vcn):
            if entry.type != DATA or entry.lowest_vcn == 0:
                continue
            other = await mft.record(entry.reference & INO_MASK)
            extent = _Part(other, record).listed(entry)
            vcn, after_extent, mapping = extent.mapping
            if vcn != after:
                raise Corrupt(Damage.EXTENTS_OF_MFT, offset, expected=after, actual=vcn)
            runs.extend(decode_runs(mapping, vcn, after_extent, boot.cluster_size, boot.clusters))
            after = after_extent
    if after * boot.cluster_size < size:
        raise Corrupt(Damage.MFT_HAS_FEWER_CLUSTERS_THAN_SIZE, offset, expected=size)
    return mft
