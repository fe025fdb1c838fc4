"""Run lists (mapping pairs): where the clusters of an attribute are.

Each pair is a byte with two sizes, a length in clusters and the signed difference of its first cluster
to that of the run before; without a difference the run is a hole.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "Data Runs".
"""

from __future__ import annotations

from vmount.parsers.errors import Corrupt
from vmount.parsers.model import Run
from vmount.parsers.ntfs.errors import Damage

_new = tuple.__new__


def decode_runs(
    data: bytes, first_vcn: int, next_vcn: int, cluster_size: int, clusters: int
) -> list[Run]:
    """Decode the run list at the start of `data`, in bytes.

    It maps the clusters [first_vcn, next_vcn) of an attribute, all of them, onto a volume of `clusters`.
    Raises Corrupt.
    """
    runs: list[Run] = []
    from_bytes = int.from_bytes
    position, end = 0, len(data)
    vcn, lcn = first_vcn, 0
    while position < end and (sizes := data[position]):
        middle = position + 1 + (sizes & 15)
        after = middle + (sizes >> 4)
        if after > end:
            raise Corrupt(Damage.RUN_LIST_GOES_ON_PAST_ATTRIBUTE, actual=sizes)
        length = from_bytes(data[position + 1 : middle], "little", signed=True)
        if length <= 0 or length > next_vcn - vcn:
            raise Corrupt(Damage.RUN_LENGTH, expected=f"1 to {next_vcn - vcn:#x}", actual=length)
        start = None
        if after > middle:
            lcn += from_bytes(data[middle:after], "little", signed=True)
            if lcn < 0 or lcn + length > clusters:
                raise Corrupt(Damage.RUN_OUTSIDE_VOLUME, actual=f"clusters {lcn:#x} + {length:#x}")
            start = lcn * cluster_size
        runs.append(_new(Run, (vcn * cluster_size, length * cluster_size, start)))
        vcn += length
        position = after
    if vcn != next_vcn:
        raise Corrupt(Damage.RUN_LIST_ENDS_EARLY, expected=next_vcn, actual=vcn)
    return runs
