"""Pairing the volumes of two disk sets by identity, not by name.

The same disk is disk0 when it is given by its VMDK and scsi0-0 when it is given by its machine's .vmx. So
volumes are paired by what their file systems, their partitions and the guest say of them, and by their names
only where nothing else tells them apart.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from vmount.volumes.find import Volume


class KnownVolume(NamedTuple):
    """A volume with files, and where its guest mounts it."""

    volume: Volume
    mount_points: tuple[str, ...]


class Pair(NamedTuple):
    """Names of one volume in two sets; None where it is only in the other."""

    before: str | None
    after: str | None


def _offsets(known: KnownVolume) -> tuple[int, ...]:
    return tuple(extent.offset for extent in known.volume.extents)


def _guid(known: KnownVolume) -> str | None:
    partition = known.volume.partition
    return known.volume.device.guid or (None if partition is None else partition.guid)


_KEYS: tuple[Callable[[KnownVolume], Sequence[Hashable]], ...] = (
    lambda v: (v.volume.uuid, v.volume.fstype, _guid(v), _offsets(v), v.volume.name),
    lambda v: (v.volume.uuid, v.volume.fstype, _guid(v), _offsets(v)),
    lambda v: (v.volume.uuid, v.volume.fstype, v.volume.name),
    lambda v: (v.volume.uuid, v.volume.fstype),
    lambda v: (_guid(v),),
    lambda v: (v.mount_points,),
    lambda v: (v.volume.name,),
    lambda v: (v.volume.size, v.volume.fstype, _offsets(v)),
)
"""What two volumes must have in common to be one, the surest first. A key with an empty first value says
nothing."""


def pair_volumes(before: Sequence[KnownVolume], after: Sequence[KnownVolume]) -> list[Pair]:
    """Return each volume of two sets once, in the order of the names that it has before, else after.

    A key pairs two volumes only if no other volume that is left on either side has it: of clones on one
    machine, those with the same place, or name, belong together.
    """
    left, right = list(before), list(after)
    found: list[Pair] = []
    for key in _KEYS:
        ones, others = _by_key(left, key), _by_key(right, key)
        for value in ones.keys() & others.keys():
            one, other = ones[value], others[value]
            found.append(Pair(one.volume.name, other.volume.name))
            left.remove(one)
            right.remove(other)
    found += [Pair(known.volume.name, None) for known in left]
    found += [Pair(None, known.volume.name) for known in right]
    return sorted(found, key=lambda pair: pair.before or pair.after or "")


def _by_key(
    volumes: Sequence[KnownVolume], key: Callable[[KnownVolume], Sequence[Hashable]]
) -> Mapping[Sequence[Hashable], KnownVolume]:
    """Return the volumes by a key, those that are not the only one to have it left out."""
    keys = [key(known) for known in volumes]
    counts = Counter(keys)
    return {
        value: known
        for value, known in zip(keys, volumes, strict=True)
        if value[0] and counts[value] == 1
    }
