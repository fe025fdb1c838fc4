"""A file on an HTTPS server as a transport: ranged GETs, repeated until they succeed or time is up.

Strategy: a read is cut into requests that are under way at the same time on a few kept connections
(httpx holds them). An answer counts only if it is the very range that was asked for, of a file of the
size, ETag and date seen when it was opened; everything else is an error, never bytes.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import httpx
import trio

from parsers.reader import Buffer, check_bounds
from vmount.transports.base import (
    Extent,
    SourceChanged,
    TransportClosed,
    TransportError,
    TransportRefused,
    TransportStats,
    TransportTimeout,
)
from vmount.transports.https_answer import (
    Version,
    content_range,
    retry_after,
    unsatisfied_total,
    version_of,
)
from vmount.transports.retry import Backoff

MOST_REDIRECTS = 3
PREFERRED_READ = 256 << 10
"""Bytes: below this the round trip and the cost of a request outweigh the payload."""

Headers = Mapping[str, str]
Renew = Callable[[], Awaitable[Headers]]


@dataclass(frozen=True)
class HttpsOptions:
    """Times in seconds, sizes in bytes."""

    connections: int = 4
    """Also the most requests in flight: HTTP/1.1 has one to a connection."""
    max_request: int = 4 << 20
    connect_timeout: float = 10.0
    reply_timeout: float = 30.0
    """For one request, from its start to its last byte."""
    total_timeout: float = 60.0
    """For one read, with all that is asked for again."""
    backoff: Backoff = field(default_factory=Backoff)


class _Again(Exception):
    """The request may succeed when it is repeated."""

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


async def open_https(
    url: str,
    *,
    headers: Headers | None = None,
    renew: Renew | None = None,
    ssl_context: ssl.SSLContext | None = None,
    options: HttpsOptions | None = None,
) -> HttpsTransport:
    """Open a file on an HTTPS server that serves ranges.

    `headers` go with every request and are secret; `renew` gets new ones when the server refuses them.
    Certificates are verified, by `ssl_context` if it is given. Raises TransportError.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise TransportRefused("not an https:// address with a host", code=errno.EINVAL)
    if "@" in parts.netloc:
        raise TransportRefused(
            f"https://{parts.hostname}: user and password must not stand in an address",
            code=errno.EINVAL,
        )
    transport = HttpsTransport(
        url,
        dict(headers or {}),
        renew,
        ssl_context or ssl.create_default_context(),
        options or HttpsOptions(),
    )
    try:
        await transport.start()
    except BaseException:
        with trio.CancelScope(shield=True):
            await transport.aclose()
        raise
    return transport


class HttpsTransport:
    """A Transport; see open_https."""

    size = 0
    preferred_read = PREFERRED_READ

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        renew: Renew | None,
        ssl_context: ssl.SSLContext,
        options: HttpsOptions,
    ) -> None:
        self._url = url
        self._name = url.partition("?")[0]
        self._headers = headers
        self._renew = renew
        self._generation = 0
        self._renewing = trio.Lock()
        self._options = options
        self.max_read = options.max_request
        self.preferred_read = min(PREFERRED_READ, self.max_read)
        self._limit = trio.CapacityLimiter(options.connections)
        self._version: Version | None = None
        self._closed = False
        self._requests = self._bytes = self._in_flight = self._retries = 0
        self._latency = 0.0
        self._reason = "no answer"
        # Neither proxies nor ~/.netrc: what goes to this server is what was given for it.
        self._client = httpx.AsyncClient(
            verify=ssl_context,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(options.reply_timeout, connect=options.connect_timeout),
            limits=httpx.Limits(
                max_connections=options.connections,
                max_keepalive_connections=options.connections,
            ),
        )

    async def start(self) -> None:
        """Learn size and version. Called once, by open_https."""
        with trio.move_on_after(self._options.total_timeout) as scope:
            await self._repeat(0, memoryview(bytearray(1)))
        if scope.cancelled_caught:
            raise self._too_late()

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes. Raises OutOfBounds, TransportError."""
        if self._closed:
            raise TransportClosed(f"{self._name}: is closed")
        check_bounds(offset, length, self.size)
        if length == 0:
            await trio.lowlevel.checkpoint()
            return b""
        data = bytearray(length)
        with trio.move_on_after(self._options.total_timeout) as scope:
            await self._fill(offset, memoryview(data))
        if scope.cancelled_caught:
            raise self._too_late()
        return data

    async def allocated(self, offset: int, length: int) -> Sequence[Extent]:
        """Call everything data: HTTP does not tell."""
        check_bounds(offset, length, self.size)
        await trio.lowlevel.checkpoint()
        return [Extent(offset, length, zero=False)] if length else []

    def describe(self) -> Mapping[str, object]:
        """Return address and size. The query and the headers are left out."""
        return {
            "address": self._name,
            "size": self.size,
            "connections": self._options.connections,
            "max_request": self.max_read,
        }

    def stats(self) -> TransportStats:
        """Return the counters as they are now."""
        return TransportStats(
            self._requests,
            self._bytes,
            self._in_flight,
            self._retries,
            0,
            self._latency / self._requests if self._requests else 0.0,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        await self._client.aclose()

    async def _fill(self, start: int, view: memoryview) -> None:
        """Read into `view`, cut into requests that are under way at the same time."""
        starts = iter(range(0, len(view), self.max_read))
        errors: list[OSError] = []

        async def work() -> None:
            try:
                for at in starts:
                    await self._repeat(start + at, view[at : at + self.max_read])
            except OSError as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

        if len(view) <= self.max_read:
            await self._repeat(start, view)
            return
        async with trio.open_nursery() as nursery:
            for _ in range(self._options.connections):
                nursery.start_soon(work)
        if errors:
            raise errors[0]

    async def _repeat(self, start: int, view: memoryview) -> None:
        """Ask until there is an answer; the deadline is the caller's."""
        renewed = False
        redirects = 0
        for delay in self._options.backoff.delays():
            generation = self._generation
            try:
                async with self._limit:
                    answer = await self._attempt(start, view)
            except _Again as again:
                self._retries += 1
                self._reason = str(again) or "connection lost"
                await trio.sleep(max(delay, again.wait))
                continue
            if answer is None:
                return
            if answer.is_redirect:
                redirects += 1
                self._follow(answer, redirects)
            elif renewed or self._renew is None:
                raise TransportRefused(
                    f"{self._name}: the server answers {answer.status_code}, not authorised; "
                    "check user, password and the privilege to download files",
                    code=errno.EACCES,
                )
            else:
                renewed = True
                await self._renew_headers(generation)
            self._retries += 1

    async def _attempt(self, start: int, view: memoryview) -> httpx.Response | None:
        """Ask once. Return None if `view` is filled, else an answer about session or place."""
        if self._closed:
            raise TransportClosed(f"{self._name}: is closed")
        last = start + len(view) - 1
        headers = {
            **self._headers,
            "Accept-Encoding": "identity",
            "Range": f"bytes={start}-{last}",
        }
        began = trio.current_time()
        self._in_flight += 1
        try:
            with trio.fail_after(self._options.reply_timeout):
                async with self._client.stream("GET", self._url, headers=headers) as answer:
                    if answer.is_redirect or answer.status_code in (401, 403):
                        return answer
                    if not self._accept(answer, start, last):
                        return None
                    await self._body(answer, start, view)
        except trio.TooSlowError as error:
            raise _Again("no reply in time") from error
        except httpx.TransportError as error:
            if _untrusted(error):
                raise TransportRefused(
                    f"{self._name}: the server's certificate is not trusted; "
                    "add its authority or pin its thumbprint"
                ) from error
            raise _Again(str(error)) from error
        finally:
            self._in_flight -= 1
        self._requests += 1
        self._bytes += len(view)
        self._latency += trio.current_time() - began
        return None

    def _accept(self, answer: httpx.Response, first: int, last: int) -> bool:
        """Check an answer's head. False: the file is empty, which only the first answer may say."""
        status = answer.status_code
        if status == 416:
            total = unsatisfied_total(answer.headers.get("content-range", ""))
            if self._version is None and total == 0:
                self._version = version_of(answer.headers, 0)
                return False
            raise SourceChanged(f"{self._name}: has become shorter than {self.size} bytes")
        self._refuse_status(answer)
        told = content_range(answer.headers.get("content-range", ""))
        encoding = answer.headers.get("content-encoding", "identity")
        if told is None or encoding != "identity" or (told.first, told.last) != (first, last):
            raise TransportRefused(
                f"{self._name}: asked for bytes {first}-{last}, the server gives "
                f"{answer.headers.get('content-range', 'no Content-Range')!r} ({encoding})"
            )
        version = version_of(answer.headers, told.total)
        if self._version is None:
            self._version = version
            self.size = told.total
        elif version != self._version:
            raise SourceChanged(f"{self._name}: has changed since it was opened; open it again")
        return True

    def _refuse_status(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status in (429, 502, 503, 504):
            raise _Again(
                f"status {status}", wait=retry_after(answer.headers.get("retry-after", ""))
            )
        if status == 404:
            raise TransportError(f"{self._name}: no such file on the server", code=errno.ENOENT)
        if status == 500:
            raise TransportError(
                f"{self._name}: the server answers 500: the file may be locked by a running "
                "machine; take a snapshot first"
            )
        if status == 200:
            raise TransportRefused(f"{self._name}: the server does not serve ranges (200, not 206)")
        if status != 206:
            raise TransportRefused(f"{self._name}: the server answers {status}")

    async def _body(self, answer: httpx.Response, start: int, view: memoryview) -> None:
        done = 0
        async for piece in answer.aiter_raw():
            if done + len(piece) > len(view):
                raise TransportRefused(f"{self._name}: more bytes than asked for at {start:#x}")
            view[done : done + len(piece)] = piece
            done += len(piece)
        if done < len(view):
            raise _Again(f"{done} of {len(view)} bytes at {start:#x}")

    def _follow(self, answer: httpx.Response, count: int) -> None:
        """Take the new address if it is on the same server, which alone may see the headers."""
        target = urljoin(self._url, answer.headers.get("location", ""))
        old, new = urlsplit(self._url), urlsplit(target)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc) or count > MOST_REDIRECTS:
            raise TransportRefused(
                f"{self._name}: redirects to {new.scheme}://{new.hostname}; name that address"
            )
        self._url = target

    async def _renew_headers(self, generation: int) -> None:
        """Get new headers, once for all requests that were refused with the old ones."""
        assert self._renew is not None
        async with self._renewing:
            if self._generation == generation:
                self._headers = dict(await self._renew())
                self._generation += 1

    def _too_late(self) -> TransportTimeout:
        return TransportTimeout(
            f"{self._name}: not read within {self._options.total_timeout:g} s; last: {self._reason}",
            code=errno.ETIMEDOUT,
        )


def _untrusted(error: BaseException) -> bool:
    """Say whether a failed verification is at the root: httpx and trio wrap it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
