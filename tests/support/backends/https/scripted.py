"""A TLS server of one file that can be told to misbehave."""

from __future__ import annotations

import http.server
import re
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

Fault = Callable[["Handler"], bool]
"""Answers a request in its own way; False leaves it to the honest server."""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, content: bytes, certificate: tuple[Path, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.content = content
        self.etag = '"one"'
        self.fault: Fault = lambda _: False
        self.seen: list[dict[str, str]] = []
        self.released = threading.Event()
        """Set when the test ends: lets stalled answers go."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}/disk?token=hidden"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of these tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self.server.seen.append({key.lower(): value for key, value in self.headers.items()})
        if self.server.fault(self):
            return
        self.honest()

    def range(self) -> tuple[int, int]:
        matched = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert matched is not None
        return int(matched[1]), min(int(matched[2]), len(self.server.content) - 1)

    def honest(self) -> None:
        first, last = self.range()
        size = len(self.server.content)
        if first >= size:
            self.answer(416, {"Content-Range": f"bytes */{size}"})
            return
        self.answer(
            206,
            {"Content-Range": f"bytes {first}-{last}/{size}", "ETag": self.server.etag},
            self.server.content[first : last + 1],
        )

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
