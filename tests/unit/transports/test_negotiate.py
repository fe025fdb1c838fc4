"""R4, R5, R21: transports are tried in order, and each one that is not used says why."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from vmount.backends.base import BackendRefused
from vmount.datastores.path import DatastorePath
from vmount.disks.disk import Refusal
from vmount.errors import SourceError, UsageError, VmountError
from vmount.parsers.errors import Unsupported
from vmount.parsers.vmdk.chain import ParentChanged
from vmount.transports.base import WantedDisk
from vmount.transports.negotiate import NoTransport, negotiate, parse_order

WANTED = WantedDisk("scsi0-0", DatastorePath("ds", "web/web.vmdk"), 512)


@dataclass
class Opened:
    name: str
    closed: int = 0

    async def aclose(self) -> None:
        self.closed += 1


@dataclass
class Way:
    """A transport that opens, or raises."""

    name: str
    error: Exception | None = None
    opened: list[Opened] = field(default_factory=list)

    async def open(self, wanted: WantedDisk) -> Opened:
        assert wanted is WANTED
        if self.error is not None:
            raise self.error
        self.opened.append(Opened(self.name))
        return self.opened[-1]

    async def aclose(self) -> None:
        """Nothing is shared."""


async def accept(wanted: WantedDisk, opened: Opened) -> None:
    assert wanted is WANTED
    assert not opened.closed


@pytest.mark.requirement("R4")
async def test_the_first_that_can_is_used() -> None:
    ways = [
        Way("san", OSError("no such LUN")),
        Way("hotadd", Unsupported("a disk on an NVMe controller")),
        Way("nbdssl", VmountError("the licence does not allow this", remedy="buy another")),
        Way("nbd"),
        Way("https"),
    ]
    found = await negotiate(WANTED, ways, accept)
    assert (found.transport, found.opened.name) == ("nbd", "nbd")
    assert found.refused == (
        Refusal("san", "no such LUN"),
        Refusal("hotadd", "not supported: a disk on an NVMe controller"),
        Refusal("nbdssl", "the licence does not allow this; buy another"),
    )
    assert not ways[4].opened


@pytest.mark.requirement("R44")
async def test_what_does_not_verify_is_closed_and_refused() -> None:
    async def verify(_: WantedDisk, opened: Opened) -> None:
        if opened.name == "san":
            raise BackendRefused("cannot be read")

    ways = [Way("san"), Way("https")]
    found = await negotiate(WANTED, ways, verify)
    assert found.transport == "https"
    assert found.refused == (Refusal("san", "cannot be read"),)
    assert (ways[0].opened[0].closed, ways[1].opened[0].closed) == (1, 0)


@pytest.mark.requirement("R4")
async def test_none_that_can() -> None:
    with pytest.raises(NoTransport) as caught:
        await negotiate(WANTED, [Way("san", OSError("away")), Way("nbd", OSError("shut"))], accept)
    assert str(caught.value) == "scsi0-0: no transport can read this disk: san: away; nbd: shut"
    assert [refusal.name for refusal in caught.value.refused] == ["san", "nbd"]
    with pytest.raises(SourceError, match="none is configured"):
        await negotiate(WANTED, list[Way](), accept)


async def test_a_changed_parent_is_no_matter_of_transports() -> None:
    ways = [Way("file", ParentChanged("parent changed since the snapshot")), Way("https")]
    with pytest.raises(ParentChanged):
        await negotiate(WANTED, ways, accept)
    assert not ways[1].opened


def test_the_order_as_it_is_written() -> None:
    known = ["file", "nbd", "https"]
    assert parse_order("https:nbd", known) == ("https", "nbd")
    assert parse_order("nbd::nbd:", known) == ("nbd",)
    for text in ("", ":", "nbd:tape", "NBD"):
        with pytest.raises(UsageError, match="known transports: file:nbd:https"):
            parse_order(text, known)
