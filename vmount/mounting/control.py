"""Talking to the process that serves a mount: a Unix socket beside its record, one JSON line each way.

The folder of the records belongs to one user, so nobody else can ask.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import trio

from vmount.errors import BusyError, Exit, MountError, Remedy, SourceError, UsageError, VmountError

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_LINE = 1 << 20
"""Bytes of a request or an answer."""
PATIENCE = 60.0
"""Seconds to wait for an answer."""

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Answers a request with something that fits JSON. What it raises as VmountError goes to who asked."""


def bound(path: Path) -> socket.socket:
    """Return the control socket; connections are refused until it is served. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _reachable(path) as address:
            made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


@asynccontextmanager
async def answering(made: socket.socket, handler: Handler) -> AsyncIterator[None]:
    """Answer requests that come through a bound socket; at the end close it. Raises OSError."""
    connection = trio.socket.from_stdlib_socket(made)
    try:
        connection.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer_requests, trio.SocketListener(connection), handler)
            yield
            nursery.cancel_scope.cancel()
    finally:
        connection.close()


async def _answer_requests(listener: trio.SocketListener, handler: Handler) -> None:
    """Answer until cancelled."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError), trio.move_on_after(PATIENCE):
                request = await _receive_line(stream)
                if request:
                    await stream.send_all(await _answer(handler, request))

    await trio.serve_listeners(answer, [listener])


def ask(path: Path, request: Mapping[str, Any], patience: float = PATIENCE) -> Any:
    """Send a request to the server at `path` and return its answer, waiting up to `patience` seconds.

    Raises what it answers with as VmountError; MountError if it does not answer.
    """
    try:
        with (
            _reachable(path) as address,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(patience)
            connection.connect(address)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(LONGEST_LINE)
        answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise MountError(
            f"no answer from the process that serves the mount: {error}",
            remedy=Remedy("see vmount status"),
        ) from error
    if "error" in answer:
        raise error_of(answer)
    return answer["value"]


def error_of(answer: Mapping[str, Any]) -> VmountError:
    """Return the error that another process told of: of the kind that goes with its exit code."""
    code = Exit(answer["code"])
    kinds = {kind.exit_code: kind for kind in (UsageError, SourceError, MountError, BusyError)}
    remedy = answer.get("remedy", "")
    worded = Remedy(answer.get("command_remedy", remedy), remedy)
    return kinds.get(code, VmountError)(answer["error"], remedy=worded)


def answer_of(error: VmountError) -> dict[str, Any]:
    """Return an error as what `error_of` makes one of, in another process."""
    return {
        "error": error.message,
        "remedy": error.remedy,
        "command_remedy": error.command_remedy,
        "code": error.exit_code,
    }


async def _answer(handler: Handler, line: bytes) -> bytes:
    try:
        answer = {"value": await handler(json.loads(line))}
    except VmountError as error:
        answer = answer_of(error)
    except (ValueError, KeyError, TypeError):
        answer = {
            "error": "unknown request: the mount is served by another version of vmount",
            "code": 1,
        }
    return json.dumps(answer).encode() + b"\n"


async def _receive_line(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST_LINE:
        part = await stream.receive_some()
        if not part:
            return b""
        line += part
    return line


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """Give a name for a socket's path that is short: the kernel takes no more than 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
