"""A VMFS volume over its devices.

Strategy: the maps of all devices make one sorted table of pieces when the volume is opened. Reading is a
bisection in it, and so is telling which device has what, for whoever reads the devices by itself.

Source: reverse engineered, vmfs-tools and dissect.vmfs (lvm.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from vmount.parsers.errors import Corrupt, OutOfBounds, Unsupported
from vmount.parsers.reader import Buffer, Reader, Span, check_bounds
from vmount.parsers.vmfs.device import Device, read_device, read_physical_extents
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.lvm import VolumeState


class VolumePiece(NamedTuple):
    """A part of a volume that is in one piece on a device. In bytes."""

    offset: int
    """In the volume."""
    length: int
    device: int
    """Index of the reader among those that the volume was opened with."""
    start: int
    """In the device."""


class DatastoreExtent(NamedTuple):
    """A device of a datastore."""

    device: int
    """Index of the reader among those that the volume was opened with."""
    uuid: str
    name: str
    """As the ESXi that made the datastore knew the device; empty if it is not noted."""
    size: int
    """Bytes of the device when it joined or was grown last."""


class LogicalVolume:
    """The bytes of a volume, as a Reader."""

    def __init__(
        self,
        uuid: str,
        extents: tuple[DatastoreExtent, ...],
        pieces: Sequence[VolumePiece],
        readers: Sequence[Reader],
    ) -> None:
        self.uuid = uuid
        """The logical volume's: what ESXi calls the datastore by before it looks into the file system."""
        self.extents = extents
        self.pieces = tuple(pieces)
        self._starts = [piece.offset for piece in pieces]
        self._readers = tuple(readers)
        self.size = pieces[-1].offset + pieces[-1].length

    def locate(self, offset: int, length: int) -> Iterator[VolumePiece]:
        """Tell where bytes of the volume are, in order.

        Raises OutOfBounds if they are not all in the volume.
        """
        check_bounds(offset, length, self.size)
        index = bisect_right(self._starts, offset) - 1
        while length:
            piece = self.pieces[index]
            skipped = offset - piece.offset
            part = min(length, piece.length - skipped)
            yield VolumePiece(offset, part, piece.device, piece.start + skipped)
            offset += part
            length -= part
            index += 1

    async def read(self, offset: int, length: int) -> Buffer:
        """Return bytes of the volume."""
        parts = [
            await self._readers[piece.device].read(piece.start, piece.length)
            for piece in self.locate(offset, length)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def prefetch(self, spans: Sequence[Span]) -> None:
        """Pass the hint on to the devices."""
        by_device: dict[int, list[Span]] = {}
        for span in spans:
            if span.offset >= 0 and span.offset + span.length <= self.size:
                for piece in self.locate(*span):
                    by_device.setdefault(piece.device, []).append(Span(piece.start, piece.length))
        for device, parts in by_device.items():
            self._readers[device].prefetch(parts)


async def open_volume(readers: Sequence[Reader]) -> LogicalVolume:
    """Put a volume together from its devices, given in any order.

    Raises NotRecognised if one of them is no VMFS, Unsupported if they are of different volumes, if some
    are missing (which are named) or the volume is not in use, Corrupt where their maps do not fit.
    """
    devices = [await read_device(reader) for reader in readers]
    _check_same_volume(devices)
    order = sorted(range(len(devices)), key=lambda index: devices[index].volume.first_entry)
    ordered = [devices[index] for index in order]
    names = ordered[0].names
    _check_complete(ordered, names)
    state = ordered[0].volume.state
    if state is not VolumeState.NORMAL:
        raise Unsupported(f"VMFS volume in state {state.name}")

    pieces = []
    for index in order:
        size = readers[index].size
        for extent in await read_physical_extents(readers[index], devices[index]):
            if extent.physical + extent.length > size:
                raise OutOfBounds(extent.physical, extent.length, size)
            pieces.append(VolumePiece(extent.logical, extent.length, index, extent.physical))
    extents = tuple(
        DatastoreExtent(
            index, device.uuid, names[place] if place < len(names) else "", device.header.size
        )
        for place, (index, device) in enumerate(zip(order, ordered, strict=True))
    )
    size = ordered[0].volume.size
    return LogicalVolume(ordered[0].volume.uuid, extents, _joined(pieces, size), readers)


def _check_same_volume(devices: list[Device]) -> None:
    first, *others = devices
    identity = first.volume.uuid, first.volume.snapshot_id
    for device in others:
        if (device.volume.uuid, device.volume.snapshot_id) != identity:
            raise Unsupported(
                f"devices of different VMFS volumes: {device.uuid} is of {device.volume.uuid}",
                remedy=f"give only the devices of {first.volume.uuid}",
            )
    for index, device in enumerate(devices):
        if any(device.uuid == other.uuid for other in devices[:index]):
            raise Unsupported(f"VMFS device {device.uuid} given twice")


def _check_complete(ordered: list[Device], names: tuple[str, ...]) -> None:
    """Raise Unsupported and name what is missing, unless each PE of the volume is on some device."""
    count = ordered[0].volume.device_count
    gaps = []
    expected = 0
    for device in ordered:
        if device.volume.first_entry != expected:
            gaps.append(f"physical extents {expected} to {device.volume.first_entry - 1}")
        expected = device.volume.last_entry + 1
    if len(ordered) == count and not gaps:
        return
    known = [name for name in names if name]
    what = f"a VMFS volume with {len(ordered)} of its {count} extents"
    if gaps:
        what += f" (missing: {', '.join(gaps)})"
    if known:
        what += f"; its devices are {', '.join(known)}"
    raise Unsupported(what, remedy="give the device of every extent")


def _joined(pieces: list[VolumePiece], size: int) -> list[VolumePiece]:
    """Return pieces in order, neighbours made one; raise Corrupt unless they cover the volume."""
    pieces.sort()
    if not pieces or pieces[0].offset != 0:
        raise Corrupt(Damage.VOLUME_WITHOUT_BEGINNING)
    for before, after in pairwise(pieces):
        if before.length == 0 or before.offset + before.length != after.offset:
            raise Corrupt(
                Damage.VOLUME_PHYSICAL_EXTENTS,
                after.start,
                expected=before.offset + before.length,
                actual=after.offset,
            )
    joined = [pieces[0]]
    for piece in pieces[1:]:
        last = joined[-1]
        if piece.device == last.device and piece.start == last.start + last.length:
            joined[-1] = last._replace(length=last.length + piece.length)
        else:
            joined.append(piece)
    covered = joined[-1].offset + joined[-1].length
    if covered < size:
        raise Corrupt(Damage.VOLUME_PHYSICAL_EXTENTS, expected=size, actual=covered)
    return joined
