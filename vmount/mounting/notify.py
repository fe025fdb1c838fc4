"""Notifying systemd that a mount answers: sd_notify(3), a datagram to a socket that it names."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
"""The environment variable of a service with Type=notify."""


class Notifier:
    """A way to the service manager, opened while this process may still connect. None waits: it does nothing."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        address = os.environ.get(SOCKET, "")
        if not address.startswith(("/", "@")):
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            # "@" stands for the zero byte of an abstract address.
            connection.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        except OSError as error:
            log.warning("%s: %s: systemd is not notified", address, error)
            connection.close()
        else:
            self._socket = connection

    def ready(self) -> None:
        """Say that the mount answers."""
        if self._socket is not None:
            try:
                self._socket.send(b"READY=1")
            except OSError as error:
                log.warning("systemd is not notified: %s", error)
