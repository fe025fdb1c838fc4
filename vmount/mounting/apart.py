"""Accessing a mount from a child process, because the access may never return.

A process that asks a FUSE file system whose server does not serve sleeps in the kernel, and where its
request has been taken up not even SIGKILL wakes it. So a child asks, and is left behind past a deadline.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 2.0
"""Seconds for a mount to answer what its server has in memory."""
LONGEST = 1 << 20
"""Bytes of an answer."""
ERROR, VALUE = b"E", b"V"


def apart(look: Callable[[], bytes], deadline: float = DEADLINE) -> bytes:
    """Return what `look` returns in a child process.

    Raises the OSError that it raises, by its number, and TimeoutError past the deadline, in seconds.
    """
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _answer(look, sending)
    os.close(sending)
    try:
        answer = _receive(receiving, time.monotonic() + deadline)
    finally:
        os.close(receiving)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)  # one that sleeps in the kernel is nobody's to wait for
    if answer[:1] == VALUE:
        return answer[1:]
    code = int(answer[1:] or errno.EIO)
    raise OSError(code, os.strerror(code))


def _answer(look: Callable[[], bytes], sending: int) -> None:
    try:
        try:
            answer = VALUE + look()
        except OSError as error:
            answer = ERROR + str(error.errno or errno.EIO).encode()
        view = memoryview(answer)
        while view:
            view = view[os.write(sending, view) :]
    finally:
        os._exit(0)


def _receive(descriptor: int, until: float) -> bytes:
    answer = b""
    while len(answer) < LONGEST:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        if not readable:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        answer += part
    return answer
