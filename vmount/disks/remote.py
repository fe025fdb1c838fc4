"""A distant disk: its transport, its cache, and what its server says of holes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import trio

from vmount.backends.block_device import DirectOptions
from vmount.backends.https.options import HttpsOptions
from vmount.backends.nbd.backend import list_exports, open_nbd
from vmount.backends.nbd.options import NbdOptions
from vmount.backends.nbd.uri import NbdUriError, parse_nbd_uri
from vmount.cache import CachedDisk, CacheOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.backends.base import Backend, BackendStats, Extent
    from vmount.backends.nbd.backend import ExportInfo
    from vmount.cache import CacheStats

log = logging.getLogger(__name__)

ZERO_MAP_STEP = 16 << 30
"""Bytes of a disk whose holes are asked for at a time, so that reads come between."""
MOST_ZEROS = 1 << 18
"""Holes remembered: their map must not outgrow the cache."""
GOODBYE = 2.0
"""Seconds to say goodbye to a server when a mount ends."""


@dataclass(frozen=True)
class RemoteOptions:
    """How distant disks are read."""

    nbd: NbdOptions = field(default_factory=NbdOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)
    https: HttpsOptions = field(default_factory=HttpsOptions)
    direct: DirectOptions = field(default_factory=DirectOptions)

    @property
    def https_cache(self) -> CacheOptions:
        """For files over https: enough is fetched ahead to keep all connections busy."""
        busy = self.https.connections * self.https.max_request
        return replace(self.cache, guesses_in_flight=max(self.cache.guesses_in_flight, busy))

    def limited(
        self, *, cache_size: int | None, timeout: float | None, keepalive: float | None
    ) -> RemoteOptions:
        """Return these options with another cache size in bytes, deadline of a read and interval of
        keeping a connection in use, both in seconds."""
        cache = self.cache if cache_size is None else replace(self.cache, capacity=cache_size)
        nbd, https = replace(self.nbd, keepalive_interval=keepalive), self.https
        direct = self.direct if timeout is None else replace(self.direct, timeout=timeout)
        if timeout is not None:
            https = replace(
                https,
                total_timeout=timeout,
                reply_timeout=min(https.reply_timeout, timeout / 2),
                connect_timeout=min(https.connect_timeout, timeout / 2),
            )
            nbd = replace(
                nbd,
                total_timeout=timeout,
                reply_timeout=min(nbd.reply_timeout, timeout / 2),
                connect_timeout=min(nbd.connect_timeout, timeout / 2),
            )
        return RemoteOptions(nbd, cache, https, direct)


class RemoteDisk:
    """An open distant disk. `data` is what to read it through."""

    def __init__(self, name: str, transport: Backend, data: CachedDisk) -> None:
        self.name = name
        """How the transport is called: "nbd", "nbds"."""
        self.data = data
        self._transport = transport

    @classmethod
    async def open(cls, uri: str, nursery: trio.Nursery, options: RemoteOptions) -> RemoteDisk:
        """Open what a URI names. Raises OSError with a message for the user."""
        try:
            transport = await open_nbd(uri, nursery, options.nbd)
        except NbdUriError as error:
            raise OSError(str(error)) from error
        disk = cls(
            "nbds" if parse_nbd_uri(uri).tls else "nbd",
            transport,
            CachedDisk(transport, nursery, options.cache),
        )
        nursery.start_soon(disk._note_zeros)
        return disk

    def describe(self) -> dict[str, Any]:
        """Return what a user may want to know of the connection; fits JSON."""
        return dict(self._transport.describe())

    def stats(self) -> dict[str, Any]:
        """Return the counters of cache and transport; fits JSON."""
        return statistics([(self.data.stats(), self._transport.stats())])

    async def aclose(self) -> None:
        """Let go of the server."""
        with trio.move_on_after(GOODBYE, shield=True):
            self.data.close()
            await self._transport.aclose()

    async def _note_zeros(self) -> None:
        """Learn where the server says that there is nothing, so that no guess is wasted on it."""
        size = self._transport.size
        zeros: list[Extent] = []
        try:
            for offset in range(0, size, ZERO_MAP_STEP):
                extents = await self._transport.allocated(offset, min(ZERO_MAP_STEP, size - offset))
                zeros += [extent for extent in extents if extent.zero]
                self.data.note_zeros(zeros)
                if len(zeros) > MOST_ZEROS:
                    break
        except OSError as error:
            log.debug("%s: holes are not known: %s", self.name, error)


async def exports_of(uri: str, options: RemoteOptions) -> Sequence[ExportInfo]:
    """Return what the server of a URI exports; nothing if the URI names an export.

    Raises OSError.
    """
    try:
        if parse_nbd_uri(uri).export:
            return ()
    except NbdUriError as error:
        raise OSError(str(error)) from error
    return await list_exports(uri, options.nbd)


def statistics(pairs: Sequence[tuple[CacheStats, BackendStats]]) -> dict[str, Any]:
    """Return the counters of caches and their transports, added up; fits JSON."""
    caches = [cache for cache, _ in pairs]
    transports = [transport for _, transport in pairs]
    hits = sum(cache.hits for cache in caches)
    reads = hits + sum(cache.misses for cache in caches)
    requests = sum(transport.requests for transport in transports)
    waited = sum(transport.latency * transport.requests for transport in transports)
    return {
        "hit_rate": round(hits / reads, 4) if reads else None,
        "bytes_demanded": sum(cache.bytes_demanded for cache in caches),
        "bytes_fetched": sum(cache.bytes_fetched for cache in caches),
        "bytes_cached": sum(cache.bytes_cached for cache in caches),
        "prefetch_used": sum(cache.guesses_used for cache in caches),
        "prefetch_wasted": sum(cache.guesses_wasted for cache in caches),
        "requests": requests,
        "in_flight": sum(transport.in_flight for transport in transports),
        "retries": sum(transport.retries for transport in transports),
        "reconnects": sum(transport.reconnects for transport in transports),
        "latency_seconds": round(waited / requests, 6) if requests else 0.0,
    }
