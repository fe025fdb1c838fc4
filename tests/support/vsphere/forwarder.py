"""A TCP forwarder whose destination can be changed, and servers that never answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Forwarder:
    """Passes on whole connections."""

    port: int
    target: tuple[str, int] | None
    """Where new connections go; None: they are taken, and nothing is ever said."""
    open_sockets: list[socket.socket] = field(default_factory=list)

    def cut(self) -> None:
        """End all connections that there are."""
        for one in self.open_sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self.open_sockets.clear()


@contextmanager
def forwarding(target: tuple[str, int] | None) -> Iterator[Forwarder]:
    """Run a forwarder."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        forwarder = Forwarder(listener.getsockname()[1], target)
        thread = threading.Thread(target=_serve, args=(listener, forwarder), daemon=True)
        thread.start()
        try:
            yield forwarder
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            forwarder.cut()
            thread.join()


def _serve(listener: socket.socket, forwarder: Forwarder) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        forwarder.open_sockets.append(near)
        if forwarder.target is None:
            continue
        far = socket.create_connection(forwarder.target)
        forwarder.open_sockets.append(far)
        for pair in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
