"""clamd as an engine (clamd(8), COMMANDS): files go over its socket, or as open descriptors.

Commands begin with "z" and end with a zero byte, and so do the answers. A stream is sent in pieces, each
after its length as 32 bits in network order; a length of 0 ends it.
"""

from __future__ import annotations

import array
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import ScannerError, explain
from vmount.jobs.scan.engine import MOST, Verdict, clamav_verdict, default_largest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONFIGURATIONS = (Path("/etc/clamav/clamd.conf"), Path("/etc/clamd.d/scan.conf"))
"""Of Debian and of Fedora."""
LARGEST_PIECE = 1 << 20
ANSWER_LIMIT = 300.0
"""Seconds that clamd may take over a file."""
LONGEST_ANSWER = 64 << 10
ADVICE = "raise StreamMaxLength and MaxFileSize in its clamd.conf"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True)
class ClamdAddress:
    """Where clamd listens, and what it takes."""

    socket: str | tuple[str, int]
    """The path of a Unix socket, or host and port."""
    settings: Mapping[str, str] | None = None
    """Of its clamd.conf(5), by names in lower case; None: they are not known."""


def clamd_address(text: str | None) -> ClamdAddress:
    """Return the address that a user gave (a path, or host:port), or that of the local configuration.

    Raises ScannerError if there is none.
    """
    configured = next((path for path in CONFIGURATIONS if path.exists()), None)
    settings = _settings(configured) if configured is not None else {}
    local: str | tuple[str, int] | None = settings.get("localsocket")
    if local is None and settings.get("tcpsocket", "").isdecimal():
        local = (settings.get("tcpaddr", "localhost"), int(settings["tcpsocket"]))
    if text is not None:
        host, _, port = text.rpartition(":")
        given: str | tuple[str, int] = text
        if "/" not in text and port.isdecimal():
            given = (host.strip("[]") or "localhost", int(port))
        return ClamdAddress(given, settings if given == local else None)
    if local is not None:
        return ClamdAddress(local, settings)
    raise ScannerError(
        "clamd is not configured on this machine",
        remedy="install clamav-daemon, give its socket with --socket, or use --engine clamscan",
    )


def _settings(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    words = [line.split(None, 1) for line in lines if not line.lstrip().startswith("#")]
    return {word[0].lower(): word[1].strip().strip('"') for word in words if len(word) == 2}


def largest_of(settings: Mapping[str, str], version: str) -> int:
    """Return the size in bytes of the largest file that a clamd with these settings scans whole."""
    default = default_largest(version)
    return min(
        _size(settings.get("maxfilesize"), default),
        _size(settings.get("streammaxlength"), default),
        _size(settings.get("maxscansize"), 4 * default),
        MOST,
    )


def _size(text: str | None, default: int) -> int:
    """Return a size of clamd.conf in bytes; 0 there stands for no limit."""
    matched = re.fullmatch(r"(\d+)([kmg]?)b?", (text or "").lower())
    if matched is None:
        return default
    return int(matched[1]) * _UNITS[matched[2]] or MOST


class Clamd:
    """A clamd that runs here or elsewhere."""

    advice = ADVICE

    def __init__(
        self, address: ClamdAddress, connections: int = 4, largest: int | None = None
    ) -> None:
        """`largest` is what the user says of a clamd whose settings are not known: bytes of the largest file
        that it scans whole. Without it ClamAV's default is taken."""
        self.connections = connections
        self.largest = largest
        self.is_limit_known = address.settings is not None
        self._address = address

    @property
    def address(self) -> ClamdAddress:
        """Where it listens."""
        return self._address

    def version(self) -> str:
        """Return what clamd says of itself and of its signatures. Raises ScannerError."""
        with self._connect() as connection:
            connection.sendall(b"zVERSION\0")
            version = self._answer(connection)
        if self._address.settings is not None:
            self.largest = largest_of(self._address.settings, version)
        elif self.largest is None:
            self.largest = default_largest(version)
        return version

    def scan(self, pieces: Iterable[bytes]) -> Verdict:
        """Send a file. clamd does not answer for a file above its limit, which is reported."""
        refused = None
        with self._connect() as connection:
            connection.sendall(b"zINSTREAM\0")
            for piece in pieces:
                if refused is None:
                    refused = self._send(connection, piece)
            if refused is None:
                refused = self._send(connection, b"")
            try:
                return _verdict(self._answer(connection))
            except ScannerError:
                if refused is not None:
                    return Verdict(
                        None,
                        f"clamd refused the rest of it: {refused}; possible remedy: {self.advice}",
                    )
                raise

    def scan_open(self, descriptor: int) -> Verdict:
        """Pass an open file to a clamd that runs here; to another its content."""
        with self._connect() as connection:
            if connection.family == socket.AF_UNIX:
                connection.sendall(b"zFILDES\0")
                rights = array.array("i", [descriptor]).tobytes()
                connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                return _verdict(self._answer(connection))
        with open(descriptor, "rb", closefd=False) as file:
            return self.scan(iter(lambda: file.read(LARGEST_PIECE), b""))

    def _connect(self) -> socket.socket:
        where = self._address.socket
        try:
            if isinstance(where, tuple):
                return socket.create_connection(where, timeout=ANSWER_LIMIT)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(ANSWER_LIMIT)
                connection.connect(where)
            except BaseException:
                connection.close()
                raise
            return connection
        except OSError as error:
            shown = where if isinstance(where, str) else ":".join(map(str, where))
            raise ScannerError(
                f"no answer from clamd at {shown}: {explain(error)}",
                remedy="start clamav-daemon, give its socket with --socket, or use --engine clamscan",
            ) from error

    def _send(self, connection: socket.socket, piece: bytes) -> str | None:
        """Send a piece; return why clamd takes no more, if so: its answer tells, once all is sent."""
        try:
            connection.sendall(struct.pack(">I", len(piece)) + piece)
        except OSError as error:
            return explain(error)
        return None

    def _answer(self, connection: socket.socket) -> str:
        answer = b""
        try:
            while not answer.endswith(b"\0") and len(answer) < LONGEST_ANSWER:
                part = connection.recv(4096)
                if not part:
                    break
                answer += part
        except OSError as error:
            raise ScannerError(f"clamd: {explain(error)}") from error
        if not answer:
            raise ScannerError("clamd closed the connection", remedy="see clamd's log")
        return answer.rstrip(b"\0\n").decode("utf-8", "replace")


def _verdict(answer: str) -> Verdict:
    """Read "stream: OK", "fd[10]: Eicar-Signature FOUND", "... size limit exceeded. ERROR"."""
    verdict = clamav_verdict("clamd", answer.partition(": ")[2] or answer)
    if verdict.problem is not None and "size limit exceeded" in verdict.problem:
        return Verdict(None, f"{verdict.problem}; {ADVICE}")
    return verdict
