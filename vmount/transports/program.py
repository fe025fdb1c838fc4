"""Transports through a program that serves one disk over NBD; those that the user has configured."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio

from vmount.backends.base import BackendError
from vmount.backends.nbd.process import NbdProcess, NbdProgram
from vmount.disks.disk import OpenedDisk
from vmount.disks.remote import RemoteDisk, RemoteOptions
from vmount.transports.base import TransportMode
from vmount.vsphere.thumbprint import Thumbprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from vmount.transports.base import ReadyVm, WantedDisk

CONNECT_LIMIT = 120.0
"""Seconds for the first connection: only then VDDK logs in and opens the disk."""


class ProgramTransport:
    """Starts a program for each disk."""

    def __init__(self, name: str, machine: ReadyVm) -> None:
        self.name = name
        self.machine = machine

    def program(self, wanted: WantedDisk, thumbprint: str) -> AbstractContextManager[NbdProgram]:
        """Give the program for a disk; it is to be started within the context."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise BackendError if there is no such program."""

    async def open(self, wanted: WantedDisk) -> OpenedDisk:
        """Start the program and connect to it. Raises OSError."""
        machine = self.machine
        self.check()
        thumbprint = await trio.to_thread.run_sync(_thumbprint, machine, abandon_on_cancel=True)
        async with AsyncExitStack() as stack:
            with self.program(wanted, thumbprint) as program:
                process = await NbdProcess.start(program, machine.nursery, machine.journal)
            stack.push_async_callback(process.aclose)
            uri = f"nbd+unix:///?socket={quote(str(process.socket))}"
            options = machine.options.remote
            patient = RemoteOptions(
                replace(options.nbd, connect_timeout=CONNECT_LIMIT), options.cache
            )
            try:
                remote = await RemoteDisk.open(uri, machine.nursery, patient)
            except OSError as error:
                await process.aclose()
                raise BackendError(f"{program.name}: {error}{process.last_words}") from error
            stack.push_async_callback(remote.aclose)
            return OpenedDisk("raw", remote.data, stack.pop_all().aclose, distant=remote)
        raise AssertionError("not reached")

    async def aclose(self) -> None:
        """Do nothing: the disks share nothing."""


class ConfiguredTransport(ProgramTransport):
    """A command of the configuration file."""

    @contextmanager
    def program(self, wanted: WantedDisk, thumbprint: str) -> Iterator[NbdProgram]:
        """Give the command filled in for a disk."""
        machine = self.machine
        settings = machine.session.settings
        password = settings.password.read().reveal()
        with memory_file(password) as descriptor:
            yield NbdProgram(
                self.name,
                machine.options.programs[self.name],
                {
                    "server": settings.host,
                    "port": str(settings.port),
                    "user": settings.user,
                    "password_file": f"/proc/self/fd/{descriptor}",
                    "thumbprint": thumbprint,
                    "vm": machine.vm,
                    "snapshot": machine.snapshot or "",
                    "disk": str(wanted.file),
                    "datastore": wanted.file.datastore,
                    "path": wanted.file.path,
                },
                secrets=(password,),
                descriptors=(descriptor,),
            )


def _thumbprint(machine: ReadyVm) -> str:
    """Return the SHA-1 of the server's certificate, which the session's context has verified; blocks."""
    settings = machine.session.settings
    with machine.session.ssl_context.wrap_socket(
        socket.create_connection((settings.host, settings.port), settings.connect_timeout),
        server_hostname=settings.host,
    ) as connection:
        leaf = connection.getpeercert(binary_form=True)
    assert leaf is not None, "a server always sends one"
    return str(Thumbprint.of(leaf, "sha1"))


def configured_mode(name: str) -> TransportMode:
    """Return the transport of a command that the configuration file names."""
    return TransportMode(
        name=name,
        needs="your own program, which serves one disk over NBD",
        remarks="see below",
        open=partial(ConfiguredTransport, name),
        by_default=False,
    )


@contextmanager
def memory_file(secret: str) -> Iterator[int]:
    """Give a descriptor of a file without a name that holds a secret, for a program that inherits it.

    A pipe could be read only once: nbdkit's plugin restarts nbdkit so that VDDK's own libraries are found,
    and reads the password again.
    """
    descriptor = os.memfd_create("secret")
    try:
        os.write(descriptor, secret.encode())
        yield descriptor
    finally:
        os.close(descriptor)
