"""R7, R9: killed or failed at any call to the server, nothing stays that `vmount cleanup` does not undo."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import trio

from tests.vsphere.conftest import Vcenter, settings_for
from tests.vsphere.meddling import Answer, Meddler, meddler
from tests.vsphere.use_machine import use_machine
from vmount.recovery import Recovery, Report
from vmount.state import StateDir
from vmount.vsphere.access_options import AccessOptions, LockMode
from vmount.vsphere.session import connected

VM = "vm-57"
PATIENCE = 30.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.vsphere.use_machine"])


class Site:
    """A vCenter behind a meddler, and a state folder."""

    def __init__(self, vcenter: Vcenter, meddler: Meddler, folder: Path) -> None:
        self.vcenter = vcenter
        self.meddler = meddler
        self.state = StateDir(folder / "state")
        self.timeout = PATIENCE

    def start(self, options: AccessOptions | None = None) -> tuple[ForkServerProcess, Connection]:
        """Start a process that uses the machine."""
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=use_machine,
            args=(
                self.vcenter,
                self.meddler.port,
                self.timeout,
                self.state.path,
                VM,
                options or AccessOptions(lock=LockMode.REQUIRE),
                theirs,
            ),
        )
        process.start()
        theirs.close()
        return process, ours

    def use(self, options: AccessOptions | None = None) -> str:
        """Let a process use the machine and end; return what it said last, or "killed"."""
        process, pipe = self.start(options)
        said = "killed"
        try:
            while True:
                assert pipe.poll(PATIENCE)
                said = pipe.recv()
                if said == "ready":
                    pipe.send("end")
                    said = "killed"
        except (EOFError, ConnectionResetError, BrokenPipeError):
            pass
        process.join(PATIENCE)
        assert process.exitcode is not None
        return said

    def kill_at(self, number: int, *, is_forwarded: bool) -> None:
        """Use the machine, killed at a call."""
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
        try:
            while pipe.poll(PATIENCE) and pipe.recv() == "ready":
                pipe.send("end")
        except (EOFError, ConnectionResetError, BrokenPipeError):
            pass
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL
        self.meddler.reset()

    def clean_up(self, *, in_flight: float = 0.0, dry_run: bool = False) -> Report:
        """Clean up, past the meddler."""

        recovery = Recovery(
            self.state,
            lambda _: connected(settings_for(self.vcenter)),
            lambda _: None,
            dry_run=dry_run,
            in_flight=in_flight,
        )
        return trio.run(recovery.run)

    def assert_nothing_is_left(self) -> None:
        """Everything begun is undone: at the server, and in the state folder."""

        async def look() -> tuple[list[str], object]:
            async with connected(settings_for(self.vcenter)) as session:
                vm = session.vm(VM)
                return await session.call(lambda: (list(vm.disabledMethod), vm.snapshot))

        assert trio.run(look) == ([], None)
        for do, undo in (
            ("DisableMethods", "EnableMethods"),
            ("CreateSnapshot_Task", "RemoveSnapshot_Task"),
        ):
            assert len(self.vcenter.called(do)) == len(self.vcenter.called(undo)), do
        assert not self.state.path.exists() or not list(self.state.path.iterdir())


@pytest.fixture
def site(vcenter: Vcenter, certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[Site]:
    with meddler(vcenter, certificate[1]) as state:
        yield Site(vcenter, state, tmp_path)


def test_r7_r9_killed_at_every_call(site: Site) -> None:
    assert site.use() == "ended"
    count = len(site.meddler.methods)
    left = 0
    assert count >= 10, "before and after each: 20 points"
    for number in range(1, count + 1):
        for is_forwarded in (False, True):
            site.kill_at(number, is_forwarded=is_forwarded)
            would = site.clean_up(dry_run=True)
            report = site.clean_up()
            assert not report.remaining
            assert [one.thing for one in would.cleaned] == [one.thing for one in report.cleaned]
            left += len(report.cleaned)
            assert site.clean_up() == Report(), "a second time there is nothing to do"
            site.assert_nothing_is_left()
    assert left > count


@pytest.mark.parametrize(
    "answer", [Answer.FAULT, Answer.CLOSED, Answer.UNAVAILABLE], ids=lambda answer: answer.value
)
def test_r7_a_fault_at_every_call(site: Site, answer: Answer) -> None:
    assert site.use() == "ended"
    count = len(site.meddler.methods)
    for number in range(1, count + 1):
        for is_forwarded in (False, True):
            site.meddler.reset()
            site.meddler.number, site.meddler.is_forwarded = number, is_forwarded
            site.meddler.answer = answer
            said = site.use()
            assert said == "ended" or said.startswith("error: ")
            assert "Traceback" not in said
            report = site.clean_up()
            assert not report.remaining
            assert site.clean_up() == Report()
            site.assert_nothing_is_left()
