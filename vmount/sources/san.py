"""A source on LUNs without a vCenter: `san:/dev/sdb,/dev/sdc:[datastore] folder/file`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vmount.errors import SourceError, explain
from vmount.options import FORCE
from vmount.parsers.errors import ParseError
from vmount.parsers.vmdk.chain import ParentChanged
from vmount.sources.base import SourceKind
from vmount.sources.san_address import SAN, parse_san, split_san

if TYPE_CHECKING:
    from vmount.disks.disk import Disk
    from vmount.sources.base import Opening


def is_san(source: str) -> bool:
    """Return whether a source is on LUNs."""
    return source.startswith(SAN)


def is_browsing(source: str) -> bool:
    """Return whether a source is a datastore itself, and not a disk in one."""
    return is_san(source) and not split_san(source)[1]


async def open_san(source: str, opening: Opening) -> list[Disk]:
    """Open what a source on LUNs names. Raises UsageError, SourceError."""
    from vmount.sources.lun_disks import LunDisks  # loaded when it is used

    address, choice = parse_san(source), opening.options.luns
    if address.luns:
        choice = replace(choice, given=address.luns)
    try:
        return await LunDisks(choice, opening).open(source, address)
    except OSError as error:
        raise SourceError(explain(error)) from error
    except ParseError as error:
        remedy = FORCE if isinstance(error, ParentChanged) else ""
        raise SourceError(str(error.named(source)), remedy=remedy) from error


KIND = SourceKind("san", "a datastore on LUNs (san:)", is_san, open_san)
