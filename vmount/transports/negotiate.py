"""Which transport reads a disk: the first of the wanted ones that can, and why the others cannot.

A *transport* is what `--transport` names, applied to one machine: it opens disks, or says why not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import trio

from vmount.datastores.path import DatastorePath
from vmount.disks.disk import Refusal
from vmount.errors import SourceError, UsageError, VmountError, explain
from vmount.parsers.errors import ParseError
from vmount.parsers.vmdk.chain import ParentChanged

log = logging.getLogger(__name__)

T = TypeVar("T", bound="Closable")
T_co = TypeVar("T_co", covariant=True)

SEPARATOR = ":"


@dataclass(frozen=True)
class WantedDisk:
    """A disk of a machine, as vSphere tells of it."""

    name: str
    """Its controller address: "scsi0-0"."""
    file: DatastorePath
    """Of the state to be read."""
    size: int = 0
    """Bytes; 0 if that is not known."""
    key: int | None = None
    """Of the device in its machine."""
    uuid: str = ""
    """Of the disk's backing."""


class Transport(Protocol[T_co]):
    """A way to the disks of one machine."""

    @property
    def name(self) -> str:
        """The transport's: "https"."""
        ...

    async def open(self, wanted: WantedDisk) -> T_co:
        """Open a disk; nothing stays open when it cannot be.

        Raises OSError, ParseError or VmountError with the reason.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what the disks shared; they are closed before. A second call does nothing."""
        ...


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
        super().__init__(f"{disk}: no transport can read it: {reasons or 'none is configured'}")


class Closable(Protocol):
    """What transports open."""

    @property
    def aclose(self) -> Callable[[], Awaitable[None]]:
        """Lets go of it."""
        ...


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
            f"--transport {text}: {'not known: ' + ', '.join(unknown) if unknown else 'names none'}",
            remedy=f"there are {SEPARATOR.join(known)}",
        )
    return names
