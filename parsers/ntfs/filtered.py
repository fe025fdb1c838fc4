"""Files whose bytes a filter driver of Windows puts together when they are read.

Each has a reparse point with the tag of that driver. What is not surely known is refused by name: the
unnamed $DATA of such a file is mostly a hole, which would read as zeros.

Source: [MS-FSCC] 2.1.2.1 for the tags; each driver's own module for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.model import Inline, Runs
from vmount.parsers.ntfs.attribute import DATA
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.ntfs.file_data import file_data
from vmount.parsers.ntfs.reparse_tags import WOF, is_cloud
from vmount.parsers.ntfs.standard_information import (
    OFFLINE,
    RECALL_ON_DATA_ACCESS,
    RECALL_ON_OPEN,
    decode_standard_of,
)
from vmount.parsers.ntfs.stream import select
from vmount.parsers.ntfs.wof import STREAM, wof_algorithm, wof_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.parsers.model import FileData
    from vmount.parsers.ntfs.attribute import Attribute
    from vmount.parsers.ntfs.boot import Boot
    from vmount.parsers.ntfs.reparse import ReparsePoint
    from vmount.parsers.reader import Reader

_ELSEWHERE = OFFLINE | RECALL_ON_OPEN | RECALL_ON_DATA_ACCESS


def filtered_data(
    reader: Reader, boot: Boot, attributes: Sequence[Attribute], point: ReparsePoint
) -> FileData | None:
    """Return where the bytes of a file with this reparse point are; None: in its unnamed $DATA.

    An empty file holds nothing that could be wrong. Raises Unsupported for what is kept in a way not known
    here, or not on this disk; Corrupt.
    """
    plain = select(attributes, DATA)
    size = plain[0].sizes.size if plain else 0
    if not size:
        return None
    if point.tag == WOF:
        algorithm = wof_algorithm(point.data)
        stored = select(attributes, DATA, STREAM)
        if not stored:
            raise Corrupt(Damage.FILE_COMPRESSED_WITH_WOF_HAS_NO_STREAM_WOFCOMPRESSEDDATA)
        return wof_data(reader, size, file_data(stored, boot), algorithm)
    if is_cloud(point.tag):
        data = file_data(plain, boot)
        if not decode_standard_of(attributes)[4] & _ELSEWHERE and _is_whole(data):
            return data
        raise Unsupported(
            f"file content that is not on this disk: {point.name}",
            remedy="it is stored by OneDrive or another provider",
        )
    raise Unsupported(f"file content behind a reparse point: {point.name}")


def _is_whole(data: FileData) -> bool:
    """Tell whether each byte of a file is on the disk: no holes, nothing that was never written."""
    if data.valid < data.size:
        return False
    match data.layout:
        case Inline():
            return True
        case Runs(runs):
            return all(run.start is not None for run in runs)
    return False
