"""What a process does that mounts a machine, as far as vCenter is concerned."""

from __future__ import annotations

import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import trio

from tests.system.vsphere.conftest import Vcenter, settings_for
from vmount.errors import VmountError
from vmount.state import StateDir
from vmount.state.undo_records import MountPoint
from vmount.vsphere.access import prepare
from vmount.vsphere.access_options import AccessOptions
from vmount.vsphere.session import connected


def use_machine(
    vcenter: Vcenter,
    port: int,
    timeout: float,
    state: Path,
    vm: str,
    options: AccessOptions,
    pipe: Connection,
) -> None:
    """Say "ready" when the disks could be opened, wait until told to end, and leave it all as it was.

    The vCenter is reached through `port`, and given `timeout` seconds for each answer.
    """
    settings = replace(settings_for(vcenter), port=port, timeout=timeout, connect_timeout=timeout)

    async def use() -> None:
        with StateDir(state).journal() as journal:
            async with (
                connected(settings) as session,
                prepare(session, vm, options, journal),
            ):
                entry = journal.begin(MountPoint(f"/nonexistent/{port}", (vm,)))
                pipe.send("ready")
                await trio.to_thread.run_sync(pipe.recv)
                entry.end()

    try:
        trio.run(use)
        pipe.send("ended")
    except VmountError as error:
        pipe.send(f"error: {error}")
        sys.exit(1)
