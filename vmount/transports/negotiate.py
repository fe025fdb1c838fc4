"""Which transport reads a disk: the first of the wanted ones that can, and why the others cannot.

A *transport* is what `--transport` names, applied to one machine: it opens disks, or says why not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from vmount.disks.disk import Refusal
from vmount.errors import SourceError, UsageError, VmountError, explain
from vmount.parsers.errors import ParseError
from vmount.parsers.vmdk.chain import ParentChanged
from vmount.transports.base import Closable, Transport, WantedDisk

log = logging.getLogger(__name__)

T = TypeVar("T", bound="Closable")

SEPARATOR = ":"


@dataclass(frozen=True)
class Negotiated(Generic[T]):
    """An open disk, and how it came about."""

    transport: str
    opened: T
    refused: tuple[Refusal, ...]


class NoTransport(SourceError):
    """No transport can read a disk."""

    def __init__(self, disk: str, refused: Sequence[Refusal]) -> None:
        self.refused = tuple(refused)
        reasons = "; ".join(f"{refusal.name}: {refusal.reason}" for refusal in refused)
        super().__init__(
            f"{disk}: no transport can read this disk: {reasons or 'none is configured'}"
        )


async def negotiate(
    wanted: WantedDisk,
    transports: Iterable[Transport[T]],
    verify: Callable[[WantedDisk, T], Awaitable[None]],
) -> Negotiated[T]:
    """Open a disk by the first transport that can. What `verify` raises refuses a transport as well.

    Raises NoTransport with the reason of each; ParentChanged at once: that is about the disk and not about
    the way to it, and the next one may not notice.
    """
    refused: list[Refusal] = []
    for transport in transports:
        try:
            opened = await _open(transport, wanted, verify)
        except ParentChanged:
            raise
        except (OSError, ParseError, VmountError) as error:
            reason = explain(error) if isinstance(error, OSError) else str(error)
            log.info("%s: not by %s: %s", wanted.name, transport.name, reason)
            refused.append(Refusal(transport.name, reason))
            continue
        log.info("%s: read by %s", wanted.name, transport.name)
        return Negotiated(transport.name, opened, tuple(refused))
    raise NoTransport(wanted.name, refused)


async def _open(
    transport: Transport[T], wanted: WantedDisk, verify: Callable[[WantedDisk, T], Awaitable[None]]
) -> T:
    opened = await transport.open(wanted)
    try:
        await verify(wanted, opened)
    except BaseException:
        with trio.CancelScope(shield=True):
            await opened.aclose()
        raise
    return opened


def parse_order(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Parse "san:nbdssl:https". Raises UsageError for a name that is not among the known ones."""
    names = tuple(dict.fromkeys(filter(None, text.split(SEPARATOR))))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(
            f"--transport {text}: {'unknown: ' + ', '.join(unknown) if unknown else 'is empty'}",
            remedy=f"known transports: {SEPARATOR.join(known)}",
        )
    return names
