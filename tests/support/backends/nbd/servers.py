"""Real NBD servers for tests: nbdkit, qemu-nbd and nbd-server.

The first two take their listening socket from us (systemd's socket activation), so that no port is
guessed and a client may connect before the server runs: it waits in the backlog.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

STARTING = 10.0
"""Seconds that a server has to start."""
ACTIVATE = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&"$0"'
"""For bash: run a program with a listening socket, given as $0, as file descriptor 3."""


def need(program: str) -> None:
    """Skip the test unless a program is installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    return listener


def listen_tcp(host: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.bind((host, 0))
    except OSError as error:
        pytest.skip(f"{host}: {error}")
    listener.listen(64)
    return listener


def uri_of(listener: socket.socket, export: str = "", *, tls: str = "") -> str:
    """Return the URI of a listening socket; `tls`: parameters that make it nbds."""
    scheme = "nbds" if tls else "nbd"
    if listener.family == socket.AF_UNIX:
        path = quote(listener.getsockname())
        return f"{scheme}+unix:///{quote(export)}?socket={path}" + (f"&{tls}" if tls else "")
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port}/{quote(export)}" + (f"?{tls}" if tls else "")


class Server:
    """A server program on a listening socket, which can be killed and started again."""

    def __init__(self, argv: Sequence[str], listener: socket.socket) -> None:
        need(argv[0])
        self.argv = list(argv)
        self.listener = listener
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        number = self.listener.fileno()
        self._process = subprocess.Popen(
            ["bash", "-c", ACTIVATE, str(number), *self.argv],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Kill the server for good: nobody listens any more."""
        self.kill()
        self.listener.close()


@contextmanager
def running(argv: Sequence[str], listener: socket.socket) -> Iterator[Server]:
    """Run a server that knows socket activation."""
    server = Server(argv, listener)
    server.start()
    try:
        yield server
    finally:
        server.close()


def nbdkit(*arguments: str) -> list[str]:
    return ["nbdkit", "--foreground", "--readonly", *arguments]


def qemu_nbd(image: Path, form: str, *arguments: str) -> list[str]:
    return [
        "qemu-nbd",
        "--persistent",
        "--read-only",
        "--shared=8",
        "-f",
        form,
        *arguments,
        str(image),
    ]


@contextmanager
def nbd_server(folder: Path, image: Path, *generic: str) -> Iterator[str]:
    """Run Debian's nbd-server on a Unix socket; yield the path of the socket."""
    need("nbd-server")
    path, config = folder / "nbd-server.sock", folder / "nbd-server.conf"
    general = "\n".join(["[generic]", "allowlist = true", f"unixsock = {path}", *generic])
    config.write_text(f"{general}\n[disk]\nexportname = {image}\nreadonly = true\n")
    pid_file = folder / "nbd-server.pid"
    subprocess.run(["nbd-server", "-C", str(config), "-p", str(pid_file)], check=True)
    try:
        deadline = time.monotonic() + STARTING
        while True:  # it has gone to the background and says nowhere when it listens
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == 0:
                    break
            assert time.monotonic() < deadline, "nbd-server does not listen"
        yield str(path)
    finally:
        os.killpg(int(pid_file.read_text()), signal.SIGKILL)


def make_certificates(folder: Path) -> None:
    """Make an authority, a server's certificate for localhost and a client's, in PEM files."""
    need("openssl")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        *("req", "-x509", *new_key, "-days", "2", "-subj", "/CN=vmount test authority"),
        *("-keyout", "ca-key.pem", "-out", "ca-cert.pem"),
        *("-addext", "keyUsage=critical,keyCertSign"),
    )
    for name, names in (
        ("server", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"),
        ("client", "subjectAltName=DNS:client"),
    ):
        (folder / "extensions").write_text(names)
        openssl(
            *("req", *new_key, "-subj", f"/CN={name}"),
            *("-keyout", f"{name}-key.pem", "-out", f"{name}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem"),
            *("-days", "2", "-out", f"{name}-cert.pem", "-extfile", "extensions"),
        )
