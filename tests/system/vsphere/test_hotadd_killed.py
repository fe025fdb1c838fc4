"""R9, R49, R51: killed at any call while disks are attached, `vmount cleanup` takes off those and no other."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import trio
from pyVmomi import vim

from tests.support.vsphere.meddling import Answer, Meddler, meddler
from tests.support.vsphere.proxy_machine import (
    PROXY,
    STORE,
    Place,
    TestDisk,
    files_of,
    guest_kernel,
    make_disks,
    use_disks,
)
from tests.system.vsphere.conftest import Vcenter, settings_for
from vmount.jobs.cleanup import Recovery, Report
from vmount.state import StateDir
from vmount.vsphere.session import connected

PATIENCE = 30.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.vsphere.proxy_machine"])
OWN = f"[{STORE}] DC0_H0_VM1/disk1.vmdk"
FOREIGN = f"[{STORE}] DC0_C0_RP0_VM0/disk1.vmdk"


class Site:
    """A vCenter behind a meddler; a machine with a disk that somebody else has attached."""

    def __init__(self, vcenter: Vcenter, meddler: Meddler, folder: Path) -> None:
        self.vcenter = vcenter
        self.meddler = meddler
        self.state = StateDir(folder / "state")
        self.place = Place(folder / "machine")
        self.place.make()
        self.disks: list[TestDisk] = make_disks(
            vcenter, 2, [random.Random(seed).randbytes(65536) for seed in range(2)]
        )

    def start(self) -> tuple[ForkServerProcess, Connection]:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=use_disks,
            args=(
                self.vcenter,
                self.meddler.port,
                self.state.path,
                self.place,
                self.disks,
                theirs,
            ),
        )
        process.start()
        theirs.close()
        return process, ours

    def use(self) -> str:
        """Let a process open the disks and close them; return what it said last."""
        process, pipe = self.start()
        said = last_word(pipe)
        process.join(PATIENCE)
        return said

    def kill_at(self, number: int, *, is_forwarded: bool) -> None:
        """Use the disks, killed at a call."""
        process: ForkServerProcess | None = None
        started = threading.Event()
        self.meddler.reset()

        def kill() -> None:
            started.wait(PATIENCE)
            assert process is not None
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)

        self.meddler.number, self.meddler.is_forwarded = number, is_forwarded
        self.meddler.action = kill
        process, pipe = self.start()
        started.set()
        last_word(pipe)
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL
        self.meddler.reset()

    def clean_up(self) -> Report:
        connect = connected(settings_for(self.vcenter))
        return trio.run(Recovery(self.state, lambda _: connect, lambda _: None, in_flight=0).run)

    def attached(self) -> list[str]:
        async def look() -> list[str]:
            async with connected(settings_for(self.vcenter)) as session:
                return await session.read(files_of, session.vm(PROXY))

        return trio.run(look)


def last_word(pipe: Connection) -> str:
    """Return what a process said last, or "killed"."""
    said = "killed"
    try:
        while said in ("killed", "ready"):
            assert pipe.poll(PATIENCE)
            said = pipe.recv()
    except (EOFError, ConnectionResetError):
        return "killed"
    return str(said)


@pytest.fixture
def site(vcenter: Vcenter, certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[Site]:
    with meddler(vcenter, certificate[1]) as state:
        site = Site(vcenter, state, tmp_path)
        trio.run(attach_foreign, vcenter)
        with guest_kernel(vcenter, site.place, site.disks):
            yield site


async def attach_foreign(vcenter: Vcenter) -> None:
    """Attach a disk as another program does."""
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=FOREIGN, diskMode="persistent")
    device = vim.vm.device.VirtualDisk(
        key=-1, controllerKey=202, unitNumber=1, backing=backing, capacityInKB=0
    )
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=device)
    async with connected(settings_for(vcenter)) as session:
        spec = vim.vm.ConfigSpec(deviceChange=[change])
        task = await session.call(session.vm(PROXY).ReconfigVM_Task, spec)
        await session.wait_task(task, 10)


@pytest.mark.requirement("R49", "R51")
def test_killed_at_every_call(site: Site) -> None:
    assert site.use() == "ended"
    methods = list(site.meddler.methods)
    assert methods.count("ReconfigVM_Task") == 4
    cleaned = 0
    first, last = methods.index("ReconfigVM_Task"), len(methods)
    for number in range(first, last + 1):
        for is_forwarded in (False, True):
            site.kill_at(number, is_forwarded=is_forwarded)
            report = site.clean_up()
            assert not report.remaining
            cleaned += len(report.cleaned)
            assert site.attached() == [OWN, FOREIGN]
            assert site.clean_up() == Report(), "a second time there is nothing to do"
    assert cleaned > last - first


@pytest.mark.parametrize("answer", [Answer.FAULT, Answer.CLOSED, Answer.UNAVAILABLE])
@pytest.mark.parametrize("is_forwarded", [False, True])
def test_a_reconfiguration_that_fails(site: Site, answer: Answer, is_forwarded: bool) -> None:
    """Done or not, and whatever is answered: what stays attached is in the journal."""
    assert site.use() == "ended"
    methods = list(site.meddler.methods)
    for number, method in enumerate(methods, start=1):
        if method != "ReconfigVM_Task":
            continue
        site.meddler.reset()
        site.meddler.number, site.meddler.is_forwarded = number, is_forwarded
        site.meddler.answer = answer
        said = site.use()
        site.meddler.reset()
        assert said == "ended" or said.startswith("error: ")
        assert not site.clean_up().remaining
        assert site.attached() == [OWN, FOREIGN]
