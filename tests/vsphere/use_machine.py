"""What a process does that mounts a machine, as far as vCenter is concerned."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from pathlib import Path

import trio

from tests.vsphere.plain_session import connected
from vmount.errors import VmountError
from vmount.state import StateDir
from vmount.state.things import MountPoint
from vmount.vsphere.access import AccessOptions, prepare
from vmount.vsphere.server import TROUBLE, reason_of


def use_machine(
    host: str,
    port: int,
    certificate: Path,
    login: tuple[str, str],
    state: Path,
    vm: str,
    options: AccessOptions,
    pipe: Connection,
) -> None:
    """Say "ready" when the disks could be opened, wait until told to end, and leave it all as it was."""

    async def use() -> None:
        with StateDir(state).journal() as journal:
            async with (
                connected(host, port, certificate, *login) as session,
                prepare(session, vm, options, journal),
            ):
                entry = journal.begin(MountPoint(f"/nonexistent/{port}", (vm,)))
                pipe.send("ready")
                await trio.to_thread.run_sync(pipe.recv)
                entry.end()

    try:
        trio.run(use)
        pipe.send("ended")
    except (*TROUBLE, trio.TooSlowError) as error:
        kind = "error" if isinstance(error, VmountError) else "trouble"
        pipe.send(f"{kind}: {reason_of(error)}")
        sys.exit(1)
