"""A process that offers a few services to a confined process, with rights that this one gave up.

Strategy: it is forked before the rights are given up and before there are threads. What it can do is fixed
by then: a request names one of its services and carries values, which the service must check, for a
hostile disk may have taken over who asks. Each request has a channel of its own, and a thread on the other
side; a service may answer several times, and pass open files. When nobody can ask any more, the process
ends, and with the processes that it started.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from vmount.errors import Exit, VmountError, explain

Service = Callable[[Any, Sequence[int]], Iterator["tuple[Any, Sequence[int]]"]]
"""Takes a value that fits JSON and open files, and yields such. Raises VmountError, OSError."""

MOST_FILES = 16
"""That go with a request or an answer."""
_LENGTH = 8
"""Bytes of the length in front of a message."""
LONGEST = 1 << 28
"""Bytes of a message: a scan names all files at once."""


class BrokerError(VmountError):
    """A service could not do what it was asked for."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = Exit(code)


class Broker:
    """The process as the confined one sees it. Any thread may ask."""

    def __init__(
        self, services: Mapping[str, Service], closing: Callable[[], None] = lambda: None
    ) -> None:
        """Fork it; `closing` is called there at the end. No thread may run yet."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._socket.close()
                _serve(theirs, services, closing)
            finally:
                os._exit(0)
        theirs.close()

    def ask(
        self, service: str, value: Any = None, files: Sequence[int] = ()
    ) -> Iterator[tuple[Any, list[int]]]:
        """Yield what a service answers, with the files that it passes. Raises VmountError."""
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with channel:
            with theirs:
                _pass(self._socket, [theirs.fileno()])
            _send(channel, {"service": service, "value": value}, files)
            while (message := _receive(channel)) is not None:
                answer, passed = message
                if "error" in answer:
                    raise BrokerError(answer["error"], answer["code"])
                yield answer["value"], passed

    def close(self) -> None:
        """Let the process end, and wait for it. A second call does nothing."""
        self._socket.close()
        if self.pid:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0


def _serve(
    requests: socket.socket, services: Mapping[str, Service], closing: Callable[[], None]
) -> None:
    # A signal of the terminal is for who asks; what is started here gets it back with exec.
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _pass_over)
    try:
        while True:
            _, passed, _, _ = socket.recv_fds(requests, 1, MOST_FILES)
            if not passed:
                return
            for descriptor in passed:
                channel = socket.socket(fileno=descriptor)
                threading.Thread(target=_do, args=(channel, services), daemon=True).start()
    finally:
        closing()
        os.killpg(0, signal.SIGTERM)


def _pass_over(_number: int, _frame: object) -> None:
    """Take a signal. Unlike SIG_IGN this is not inherited by programs."""


def _do(channel: socket.socket, services: Mapping[str, Service]) -> None:
    with channel:
        try:
            message = _receive(channel)
            if message is None:
                return
            request, files = message
            try:
                for value, passed in services[request["service"]](request["value"], files):
                    _send(channel, {"value": value}, passed)
            except VmountError as error:
                _send(channel, {"error": error.as_command(), "code": error.exit_code}, ())
            except OSError as error:
                _send(channel, {"error": explain(error), "code": Exit.FAILED}, ())
            except (KeyError, TypeError, ValueError) as error:
                _send(channel, {"error": f"refused: {error!r}", "code": Exit.FAILED}, ())
            finally:
                for descriptor in files:
                    os.close(descriptor)
        except OSError:
            return  # who asked has gone


def _pass(channel: socket.socket, files: Sequence[int]) -> None:
    rights = array.array("i", files).tobytes()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if files else []
    channel.sendmsg([b"\0"], ancillary)


def _send(channel: socket.socket, message: Mapping[str, Any], files: Sequence[int]) -> None:
    _pass(channel, files)
    text = json.dumps(message).encode()
    channel.sendall(len(text).to_bytes(_LENGTH, "big") + text)


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return a message and its files; None at the end. Raises BrokerError for what is none."""
    first, files, _, _ = socket.recv_fds(channel, 1, MOST_FILES)
    if not first:
        return None
    length = int.from_bytes(_exactly(channel, _LENGTH), "big")
    if length > LONGEST:
        raise BrokerError("a message over the size limit", Exit.FAILED)
    message: dict[str, Any] = json.loads(_exactly(channel, length))
    return message, files


def _exactly(channel: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = channel.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise BrokerError("the helper process has ended", Exit.FAILED)
        parts += part
    return bytes(parts)
