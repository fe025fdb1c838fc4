"""A proxy before the simulated vCenter that meddles with one call: the client is killed or told nonsense."""

from __future__ import annotations

import enum
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.system.vsphere.conftest import Vcenter

METHOD = re.compile(rb'<(?:\w+:)?(\w+) xmlns="urn:(?:internal)?vim25"')
FAULT = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault>
<faultcode>ServerFaultCode</faultcode><faultstring>{text}</faultstring><detail>
<{name}Fault xmlns="urn:vim25" xsi:type="{name}">{fields}</{name}Fault></detail>
</soapenv:Fault></soapenv:Body></soapenv:Envelope>"""


class Answer(enum.Enum):
    """What the client gets instead of the answer."""

    FAULT = "fault"
    CLOSED = "closed"
    UNAVAILABLE = "503"
    STALL = "stall"
    NOT_QUIESCED = "not quiesced"
    RESTRICTED = "restricted"


FAULTS = {
    Answer.FAULT: FAULT.format(name="SystemError", text="injected", fields="<reason>x</reason>"),
    Answer.RESTRICTED: FAULT.format(
        name="RestrictedVersion",
        text="Current license or ESXi version prohibits execution of the requested operation.",
        fields="",
    ),
    Answer.NOT_QUIESCED: FAULT.format(
        name="ApplicationQuiesceFault",
        text="An error occurred while quiescing the virtual machine.",
        fields="",
    ),
}


@dataclass
class Meddler:
    """Counts calls; decides what becomes of each. Set its fields between calls."""

    port: int
    methods: list[str] = field(default_factory=list)
    """All that was called: what SOAP requests say, or GET and HEAD."""
    number: int = 0
    """The call to meddle with, from 1; or 0."""
    method: str = ""
    """The method to meddle with whenever it is called."""
    is_forwarded: bool = False
    """Whether the server gets to see that call."""
    answer: Answer = Answer.FAULT
    action: Callable[[], None] | None = None
    """Is called in place of answering."""
    aside: Callable[[], None] | None = None
    """Is called once the call was forwarded; the answer is given as it is."""
    times: int = 0
    """How often to meddle; 0: always."""
    late: float = 0.0
    """Seconds between the `action` and the forwarding: of what was on its way."""
    mutex: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end: whoever stalls stops."""

    def reset(self) -> None:
        """Let everything through, and count anew."""
        self.methods, self.number, self.method, self.action = [], 0, "", None
        self.times, self.aside = 0, None

    def wants(self, name: str) -> bool:
        """Count a call and say whether it is the one."""
        with self.mutex:
            self.methods.append(name)
            if self.times and self.methods.count(self.method) > self.times:
                return False
            return len(self.methods) == self.number or name == self.method


@contextmanager
def meddler(vcenter: Vcenter, key: Path) -> Iterator[Meddler]:
    """Run the proxy."""
    state = Meddler(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "meddler"
        wbufsize = -1  # head and body in one packet, or each answer waits for an acknowledgement
        onward: http.client.HTTPSConnection | None = None

        def do_GET(self) -> None:
            self._handle()

        def do_HEAD(self) -> None:
            self._handle()

        def do_POST(self) -> None:
            self._handle()

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = METHOD.search(body)
            if not state.wants(self.command if found is None else found[1].decode()):
                self._forward(body)
                return
            if state.aside is not None:
                answer = self._ask(body)
                state.aside()
                self._send(*answer)
                return
            if state.action is not None and state.late:
                state.action()
                state.over.wait(state.late)
                self._ask(body)
                self._hang_up()
                return
            if state.is_forwarded:
                self._ask(body)
            if state.action is not None:
                state.action()
                self._hang_up()
            elif state.answer is Answer.UNAVAILABLE:
                self._send(503, b"busy", {})
            elif state.answer is Answer.CLOSED:
                self._hang_up()
            elif state.answer is Answer.STALL:
                state.over.wait(60)
                self._hang_up()
            else:
                self._send(500, FAULTS[state.answer].encode(), {"Content-Type": "text/xml"})

        def _forward(self, body: bytes) -> None:
            self._send(*self._ask(body))

        def _ask(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
            if self.onward is None:
                self.onward = http.client.HTTPSConnection(
                    vcenter.host, vcenter.port, context=vcenter.trusting(), timeout=30
                )
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "accept-encoding", "connection", "content-length")
            }
            self.onward.request(self.command, self.path, body or None, headers)
            answer = self.onward.getresponse()
            return (
                answer.status,
                answer.read(),
                {
                    name: value
                    for name, value in answer.getheaders()
                    if name.lower() not in ("connection", "transfer-encoding", "date")
                },
            )

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name in headers}:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def finish(self) -> None:
            super().finish()
            if self.onward is not None:
                self.onward.close()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that was killed is what this is for."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(vcenter.certificate, key)
    with Server(("127.0.0.1", 0), Handler) as server:
        # The handshake happens in the connection's own thread, with its first read.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.over.set()
            server.shutdown()
            thread.join()
