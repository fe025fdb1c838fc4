"""A file on an HTTPS server as a backend: ranged GETs, repeated until they succeed or time is up.

Strategy: a read is cut into requests that are under way at the same time on a few kept connections
(httpcore holds them). An answer counts only if it is the very range that was asked for, of a file of the
size, ETag and date seen when it was opened; everything else is an error, never bytes.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urljoin, urlsplit

import httpcore
import trio

from vmount.backends.base import (
    BackendClosed,
    BackendError,
    BackendRefused,
    BackendStats,
    BackendTimeout,
    Extent,
    SourceChanged,
)
from vmount.backends.https.answer import (
    Version,
    content_range,
    retry_after,
    unsatisfied_total,
    version_of,
)
from vmount.backends.https.client import (
    PASSING,
    Answer,
    Headers,
    HttpsClient,
    Renew,
    check_address,
)
from vmount.backends.https.options import HttpsOptions
from vmount.backends.https.stream import EndlessHead
from vmount.backends.requests import Counters, cut, run_together
from vmount.parsers.reader import Buffer, Span, check_bounds

__all__ = ["HttpsBackend", "HttpsClient", "HttpsOptions", "open_https", "open_https_file"]

MOST_REDIRECTS = 3
HEAD = 64 << 10
"""Bytes that opening a file brings: a descriptor, or an extent's header with what comes after it."""
PRIVILEGE = "VirtualMachine.Provisioning.GetVmFiles"
SLOWEST_DOWN = 30.0
"""Seconds that a server's Retry-After is obeyed for at most: the deadline of the read is near then."""


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
) -> HttpsBackend:
    """Open a file on an HTTPS server that serves ranges, with connections of its own.

    The arguments are those of HttpsClient. Raises BackendError.
    """
    check_address(url)
    client = HttpsClient(headers=headers, renew=renew, ssl_context=ssl_context, options=options)
    try:
        return await open_https_file(url, client, closes_client=True)
    except BaseException:
        with trio.CancelScope(shield=True):
            await client.aclose()
        raise


async def open_https_file(
    url: str, client: HttpsClient, *, closes_client: bool = False
) -> HttpsBackend:
    """Open a file through connections that others may use as well. Raises BackendError."""
    check_address(url)
    backend = HttpsBackend(url, client, closes_client=closes_client)
    await backend.start()
    return backend


class HttpsBackend:
    """A Backend; see open_https."""

    size = 0
    head = b""
    """The first bytes, as opening has brought them."""

    def __init__(self, url: str, client: HttpsClient, *, closes_client: bool) -> None:
        self._url = url
        self._name = url.partition("?")[0]
        self._client = client
        self._closes_client = closes_client
        self._options = client.options
        self.max_read = self._options.max_request
        self._version: Version | None = None
        self._closed = False
        self._counters = Counters()
        self._reason = "no answer"

    async def start(self) -> None:
        """Learn size, version and the first bytes. Called once, by open_https."""
        head = bytearray(HEAD)
        with trio.move_on_after(self._options.total_timeout) as scope:
            await self._repeat(0, memoryview(head))
        if scope.cancelled_caught:
            raise self._too_late()
        self.head = bytes(memoryview(head)[: self.size])

    async def read(self, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes. Raises OutOfBounds, BackendError."""
        if self._closed:
            raise BackendClosed(f"{self._name}: already closed")
        check_bounds(offset, length, self.size)
        if length == 0:
            await trio.lowlevel.checkpoint()
            return b""
        data = bytearray(length)
        answers = self._client.answers
        with trio.move_on_after(self._options.total_timeout) as scope:
            await self._fill(offset, memoryview(data))
        if scope.cancelled_caught:
            error = self._too_late()
            if self._client.answers == answers:
                self._client.give_up(error, self._url)
            raise error
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

    def stats(self) -> BackendStats:
        """Return the counters as they are now."""
        return self._counters.stats()

    async def aclose(self) -> None:
        """Read no more. A second call does nothing."""
        self._closed = True
        if self._closes_client:
            await self._client.aclose()

    async def _fill(self, start: int, view: memoryview) -> None:
        """Read into `view`, cut into requests that are under way at the same time."""
        if len(view) <= self.max_read:
            await self._repeat(start, view)
            return

        async def request(part: Span) -> None:
            await self._repeat(start + part.offset, view[part.offset : part.offset + part.length])

        await run_together(cut(len(view), self.max_read), request, self._options.connections)

    async def _repeat(self, start: int, view: memoryview) -> None:
        """Ask until there is an answer; the deadline is the caller's."""
        renewed = False
        redirects = 0
        client = self._client
        for delay in self._options.backoff.delays():
            generation = client.generation
            try:
                async with client.limit:
                    client.check()
                    answer = await self._attempt(start, view)
            except _Again as again:
                self._counters.retries += 1
                self._reason = str(again) or "connection lost"
                await trio.sleep(max(delay, min(again.wait, SLOWEST_DOWN)))
                continue
            if answer is None:
                return
            self._counters.retries += 1
            if answer.is_redirect:
                redirects += 1
                self._follow(answer, redirects)
            elif renewed or not await client.renew(generation):
                raise BackendRefused(
                    f"{self._name}: the server answered {answer.status} (not authorised); "
                    f"check user, password and the privilege to download files ({PRIVILEGE})",
                    code=errno.EACCES,
                )
            else:
                renewed = True

    async def _attempt(self, start: int, view: memoryview) -> Answer | None:
        """Ask once. Return None if `view` is filled, else an answer about session or place."""
        if self._closed:
            raise BackendClosed(f"{self._name}: already closed")
        last = start + len(view) - 1
        began = trio.current_time()
        self._counters.in_flight += 1
        try:
            with trio.fail_after(self._options.reply_timeout):
                async with self._client.get(self._url, start, last) as answer:
                    if answer.is_redirect or answer.status in (401, 403):
                        return answer
                    count = self._accept(answer, start, last)
                    await self._body(answer, start, view[:count])
        except trio.TooSlowError as error:
            raise _Again("no reply in time") from error
        except EndlessHead as error:
            raise BackendRefused(
                f"{self._name}: the server broke the HTTP protocol: {error}; its answer is discarded"
            ) from error
        except PASSING as error:
            if _untrusted(error):
                raise BackendRefused(
                    f"{self._name}: the server's certificate is not trusted; "
                    "add its authority or pin its thumbprint"
                ) from error
            if isinstance(error, httpcore.ConnectError) and not self._client.answers:
                raise BackendRefused(
                    f"{self._name}: cannot connect: {error}; "
                    "is the server running, is the address right?"
                ) from error
            raise _Again(str(error)) from error
        finally:
            self._counters.in_flight -= 1
        self._counters.answered(began, count)
        return None

    def _accept(self, answer: Answer, first: int, last: int) -> int:
        """Check an answer's head; return how many bytes it brings.

        Fewer than asked for only if the file ends, which only the first request does not know.
        """
        status = answer.status
        if status == 416:
            total = unsatisfied_total(answer.headers.get("content-range", ""))
            if self._version is None and total == 0:
                self._version = version_of(answer.headers, 0)
                return 0
            raise SourceChanged(f"{self._name}: has shrunk below {self.size} bytes")
        self._refuse_status(answer)
        told = content_range(answer.headers.get("content-range", ""))
        encoding = answer.headers.get("content-encoding", "identity")
        if (
            told is None
            or encoding != "identity"
            or (told.first, told.last)
            != (
                first,
                min(last, told.total - 1),
            )
        ):
            raise BackendRefused(
                f"{self._name}: requested bytes {first}-{last}, the server sent "
                f"{answer.headers.get('content-range', 'no Content-Range')!r} ({encoding})"
            )
        version = version_of(answer.headers, told.total)
        if self._version is None:
            self._version = version
            self.size = told.total
        elif version != self._version:
            raise SourceChanged(f"{self._name}: has changed since it was opened; open it again")
        return told.last + 1 - told.first

    def _refuse_status(self, answer: Answer) -> None:
        status = answer.status
        if status in (429, 502, 503, 504):
            raise _Again(
                f"status {status}", wait=retry_after(answer.headers.get("retry-after", ""))
            )
        if status == 404:
            raise BackendError(f"{self._name}: no such file on the server", code=errno.ENOENT)
        if status == 500:
            raise BackendError(
                f"{self._name}: the server answered 500: the file may be locked by a running "
                "VM; take a snapshot first"
            )
        if status == 200:
            raise BackendRefused(f"{self._name}: the server does not serve ranges (200, not 206)")
        if status != 206:
            raise BackendRefused(f"{self._name}: the server answered {status}")

    async def _body(self, answer: Answer, start: int, view: memoryview) -> None:
        done = 0
        async for piece in answer.pieces:
            if done + len(piece) > len(view):
                raise BackendRefused(f"{self._name}: more bytes than requested at {start:#x}")
            view[done : done + len(piece)] = piece
            done += len(piece)
        if done < len(view):
            raise _Again(f"{done} of {len(view)} bytes at {start:#x}")

    def _follow(self, answer: Answer, count: int) -> None:
        """Take the new address if it is on the same server, which alone may see the headers."""
        target = urljoin(self._url, answer.headers.get("location", ""))
        old, new = urlsplit(self._url), urlsplit(target)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc) or count > MOST_REDIRECTS:
            raise BackendRefused(
                f"{self._name}: redirects to {new.scheme}://{new.hostname}; use that address as SOURCE"
            )
        self._url = target

    def _too_late(self) -> BackendTimeout:
        return BackendTimeout(
            f"{self._name}: not read within {self._options.total_timeout:g} s; last: {self._reason}",
            code=errno.ETIMEDOUT,
        )


def _untrusted(error: BaseException) -> bool:
    """Say whether a failed verification is at the root: it is wrapped several times."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
