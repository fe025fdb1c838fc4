"""Telling the simulated vCenter what to do while it runs (tests/vcsim/controls.go)."""

from __future__ import annotations

import ssl
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass

from tests.system.vsphere.conftest import Vcenter
from vmount.vsphere.address import join_host_port


@dataclass(frozen=True)
class Controls:
    """Of one vCenter."""

    vcenter: Vcenter

    def refuse(self, privilege: str) -> None:
        """Take a privilege from everybody."""
        self._tell("refuse", privilege=privilege)

    def expire_sessions(self) -> None:
        """End all sessions, as idleness does."""
        self._tell("expire")

    def grow_disk(self, vm: str, key: int, file: str) -> None:
        """Let a machine's disk write to `file` ("[store] folder/name.vmdk") from its next snapshot on."""
        self._tell("grow", vm=vm, key=key, file=file)

    def delay_task(self, milliseconds: int) -> None:
        """Show the next task as running for so long; it is done at once."""
        self._tell("delay", milliseconds=milliseconds)

    def sessions(self) -> int:
        """Return how many sessions there are."""
        return int(self._ask("sessions"))

    def called(self) -> Counter[str]:
        """Return how often each method was called, with whatever success."""
        return Counter(self._ask("called").split())

    def _tell(self, command: str, **query: object) -> None:
        self._ask(f"{command}?{urllib.parse.urlencode(query)}")

    def _ask(self, path: str) -> str:
        place = join_host_port(self.vcenter.host, self.vcenter.port)
        url = f"https://{place}/control/{path}"
        with urllib.request.urlopen(url, context=_anybody(), timeout=30) as answer:
            text: bytes = answer.read()
        return text.decode()


def _anybody() -> ssl.SSLContext:
    """Return a context for a test's own side door, whatever its certificate is worth."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
