"""R7, R9: killed or failed at any call to the server, nothing stays that `vmount cleanup` does not undo."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess
from typing import TypeVar

import pytest
import trio
from pyVmomi import vim

from tests.support.paths import ROOT
from tests.support.vsphere.calls import destroy, remove_all_snapshots, snapshots
from tests.support.vsphere.controls import Controls
from tests.support.vsphere.meddling import Answer, Meddler, meddler
from tests.support.vsphere.use_machine import use_machine
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter, settings_for
from vmount.jobs.cleanup import Recovery, Report
from vmount.state import StateDir
from vmount.vsphere.access import prepare
from vmount.vsphere.access_options import AccessOptions, LockMode, Quiesce
from vmount.vsphere.session import connected
from vmount.vsphere.settings import ConnectionSettings

T = TypeVar("T")

VM = "vm-57"
PATIENCE = 30.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.vsphere.use_machine"])


class Site:
    """A vCenter behind a meddler, and a state folder."""

    def __init__(self, vcenter: Vcenter, meddler: Meddler, folder: Path) -> None:
        self.vcenter = vcenter
        self.meddler = meddler
        self.state = StateDir(folder / "state")
        self.timeout = PATIENCE

    def start(
        self, options: AccessOptions | None = None, *, port: int | None = None
    ) -> tuple[ForkServerProcess, Connection]:
        """Start a process that uses the machine, through the meddler unless a port is given."""
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=use_machine,
            args=(
                self.vcenter,
                port or self.meddler.port,
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

    def clean_up(
        self,
        *,
        in_flight: float = 0.0,
        dry_run: bool = False,
        settings: ConnectionSettings | None = None,
    ) -> Report:
        """Clean up, past the meddler."""

        recovery = Recovery(
            self.state,
            lambda _: connected(settings or settings_for(self.vcenter)),
            lambda _: None,
            dry_run=dry_run,
            in_flight=in_flight,
        )
        return trio.run(recovery.run)

    async def with_machine(self, function: Callable[[vim.VirtualMachine], T]) -> T:
        """Ask the server something about the machine, or do something to it."""
        async with connected(settings_for(self.vcenter)) as session:
            return await session.call(function, session.vm(VM))

    def assert_nothing_is_left(self) -> None:
        """Everything begun is undone: at the server, and in the state folder."""

        assert trio.run(self.with_machine, still) == ([], None)
        for do, undo in (
            ("DisableMethods", "EnableMethods"),
            ("CreateSnapshot_Task", "RemoveSnapshot_Task"),
        ):
            assert len(self.vcenter.called(do)) == len(self.vcenter.called(undo)), do
        assert not self.state.path.exists() or not list(self.state.path.iterdir())


def still(vm: vim.VirtualMachine) -> tuple[list[str], object]:
    return list(vm.disabledMethod), vm.snapshot


@pytest.fixture
def site(vcenter: Vcenter, certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[Site]:
    with meddler(vcenter, certificate[1]) as state:
        yield Site(vcenter, state, tmp_path)


@pytest.mark.requirement("R7", "R9")
def test_killed_at_every_call(site: Site) -> None:
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
            assert [one.undo_record for one in would.cleaned] == [
                one.undo_record for one in report.cleaned
            ]
            left += len(report.cleaned)
            assert site.clean_up() == Report(), "a second time there is nothing to do"
            site.assert_nothing_is_left()
    assert left > count


@pytest.mark.requirement("R7")
@pytest.mark.parametrize(
    "answer", [Answer.FAULT, Answer.CLOSED, Answer.UNAVAILABLE], ids=lambda answer: answer.value
)
def test_a_fault_at_every_call(site: Site, answer: Answer) -> None:
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


@pytest.mark.requirement("R38")
def test_a_stalled_call_is_given_up_and_undone(site: Site) -> None:
    """Whether it was done is not known; a lost answer to CreateSnapshot costs no snapshot."""
    assert site.use() == "ended"
    methods = list(site.meddler.methods)
    site.timeout = 1.0
    for method in ("DisableMethods", "CreateSnapshot_Task", "RemoveSnapshot_Task"):
        for is_forwarded in (False, True):
            site.meddler.reset()
            site.meddler.number = methods.index(method) + 1
            site.meddler.is_forwarded, site.meddler.answer = is_forwarded, Answer.STALL
            said = site.use()
            if method != "RemoveSnapshot_Task":
                assert "no answer within 1 s" in said
                assert not site.state.files(), "the process has undone it by itself"
            site.clean_up()
            site.assert_nothing_is_left()


@pytest.mark.requirement("R9")
def test_a_request_that_arrives_after_its_sender_was_killed(site: Site) -> None:
    """The killed process's CreateSnapshot reaches the server when the cleaning up has begun."""
    assert site.use() == "ended"
    site.meddler.late = 1.0
    site.kill_at(site.meddler.methods.index("CreateSnapshot_Task") + 1, is_forwarded=True)
    report = site.clean_up(in_flight=3.0)
    assert [outcome.kind for outcome in report.cleaned] == ["snapshot", "relocation lock"]
    assert report.cleaned[0].done.startswith("removed snapshot")
    site.assert_nothing_is_left()


@pytest.mark.requirement("R14")
@pytest.mark.parametrize(
    "privilege", ["Global.DisableMethods", "VirtualMachine.State.CreateSnapshot"]
)
def test_a_missing_privilege_is_named(site: Site, privilege: str) -> None:
    Controls(site.vcenter).refuse(privilege)
    assert privilege in site.use(AccessOptions(lock=LockMode.REQUIRE))
    assert not site.state.files()
    site.assert_nothing_is_left()


@pytest.mark.requirement("R14")
def test_without_the_lock_privilege_it_goes_on_unlocked(site: Site) -> None:
    Controls(site.vcenter).refuse("Global.DisableMethods")
    assert site.use(AccessOptions(lock=LockMode.AUTO)) == "ended"
    assert not site.vcenter.called("EnableMethods")
    site.assert_nothing_is_left()


@pytest.mark.requirement("R14")
def test_privileges_that_are_taken_away_while_it_is_read(site: Site) -> None:
    process, pipe = site.start()
    assert pipe.recv() == "ready"
    privileges = ["Global.EnableMethods", "VirtualMachine.State.RemoveSnapshot"]
    for privilege in privileges:
        Controls(site.vcenter).refuse(privilege)
    pipe.send("end")
    assert pipe.recv() == "ended"
    process.join(PATIENCE)
    report = site.clean_up()
    assert [outcome.kind for outcome in report.remaining] == ["snapshot", "relocation lock"]
    for outcome, privilege in zip(report.remaining, reversed(privileges), strict=True):
        assert privilege in outcome.reason
    assert not report.cleaned


@pytest.mark.requirement("R58")
def test_a_guest_that_cannot_be_quiesced(site: Site) -> None:
    site.meddler.answer = Answer.NOT_QUIESCED
    site.meddler.method = "CreateSnapshot_Task"
    said = site.use(AccessOptions(quiesce=Quiesce.REQUIRE))
    assert "vm-57: the guest cannot be quiesced" in said
    assert "Quiesce.TRY" in said
    site.assert_nothing_is_left()
    site.meddler.reset()
    site.meddler.method, site.meddler.times = "CreateSnapshot_Task", 1
    assert site.use(AccessOptions(quiesce=Quiesce.TRY)) == "ended"
    assert len(site.vcenter.called("CreateSnapshot_Task")) == 1
    site.assert_nothing_is_left()


@pytest.mark.requirement("R8")
def test_two_processes_on_one_machine(site: Site) -> None:
    """The first one's end leaves the second working and locked."""
    first, first_pipe = site.start()
    assert first_pipe.recv() == "ready"
    second, second_pipe = site.start()
    assert second_pipe.recv() == "ready"
    assert len(site.vcenter.called("DisableMethods")) == 1
    assert len(site.vcenter.called("CreateSnapshot_Task")) == 2
    first_pipe.send("end")
    assert first_pipe.recv() == "ended"
    first.join(PATIENCE)
    assert len(site.vcenter.called("RemoveSnapshot_Task")) == 1
    assert not site.vcenter.called("EnableMethods")
    assert site.clean_up() == Report(), "what the living one needs is not touched"
    second_pipe.send("end")
    assert second_pipe.recv() == "ended"
    second.join(PATIENCE)
    assert len(site.vcenter.called("EnableMethods")) == 1
    site.assert_nothing_is_left()


@pytest.mark.requirement("R8")
@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_processes_is_killed(site: Site, killed: int) -> None:
    """The lock stays as long as the other one lives, whichever of them took it."""
    users = [site.start() for _ in range(2)]
    for _, pipe in users:
        assert pipe.recv() == "ready"
    victim, (survivor, pipe) = users[killed][0], users[1 - killed]
    victim.kill()
    victim.join(PATIENCE)
    report = site.clean_up()
    assert not report.remaining
    assert "left vm-57 to the locks of others" in [outcome.done for outcome in report.cleaned]
    assert not site.vcenter.called("EnableMethods")
    pipe.send("end")
    assert pipe.recv() == "ended"
    survivor.join(PATIENCE)
    site.assert_nothing_is_left()


@pytest.mark.requirement("R8")
def test_the_killed_ones_lock_is_left_to_cleanup(site: Site) -> None:
    users = [site.start() for _ in range(2)]
    for _, pipe in users:
        assert pipe.recv() == "ready"
    users[0][0].kill()
    users[0][0].join(PATIENCE)
    users[1][1].send("end")
    assert users[1][1].recv() == "ended"
    users[1][0].join(PATIENCE)
    assert not site.vcenter.called("EnableMethods")
    assert not site.clean_up().remaining
    site.assert_nothing_is_left()


@pytest.mark.requirement("R9")
def test_the_next_one_tells_of_what_a_killed_one_has_left(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    process, pipe = site.start()
    assert pipe.recv() == "ready"
    process.kill()
    process.join(PATIENCE)

    async def use() -> None:
        with site.state.journal() as journal:
            async with (
                connected(settings_for(site.vcenter)) as session,
                prepare(session, VM, AccessOptions(), journal),
            ):
                pass

    trio.run(use)
    (warning,) = [text for text in caplog.messages if "was killed" in text]
    assert (
        f"process {process.pid} was killed and left behind relocation lock of {VM}, snap" in warning
    )
    assert not site.clean_up().remaining
    site.assert_nothing_is_left()


@pytest.mark.requirement("R28")
def test_many_processes_at_once_lock_once(site: Site) -> None:
    users = [site.start() for _ in range(8)]
    for _, pipe in users:
        assert pipe.recv() == "ready"
    assert len(site.vcenter.called("DisableMethods")) == 1
    for _, pipe in users:
        pipe.send("end")
    for process, pipe in users:
        assert pipe.recv() == "ended"
        process.join(PATIENCE)
    assert len(site.vcenter.called("EnableMethods")) == 1
    site.assert_nothing_is_left()


@pytest.mark.requirement("R10")
def test_a_snapshot_or_machine_that_is_gone_is_no_error(site: Site) -> None:
    for remove in (remove_all_snapshots, destroy):
        process, pipe = site.start()
        assert pipe.recv() == "ready"
        process.kill()
        process.join(PATIENCE)
        trio.run(site.with_machine, remove)
        report = site.clean_up()
        assert not report.remaining
        assert any("no longer exists" in outcome.done for outcome in report.cleaned)
        assert site.clean_up() == Report()


@pytest.mark.requirement("R9")
def test_what_remains_because_the_server_is_away_is_done_later(site: Site) -> None:
    process, pipe = site.start()
    assert pipe.recv() == "ready"
    process.kill()
    process.join(PATIENCE)
    away = replace(settings_for(site.vcenter), port=1)
    report = site.clean_up(settings=away)
    assert [outcome.kind for outcome in report.remaining] == ["snapshot", "relocation lock"]
    assert all("refused the connection" in outcome.reason for outcome in report.remaining)
    assert not site.clean_up().remaining
    site.assert_nothing_is_left()


@pytest.mark.requirement("R9")
def test_two_cleanups_at_once_do_it_once(site: Site) -> None:
    process, pipe = site.start()
    assert pipe.recv() == "ready"
    process.kill()
    process.join(PATIENCE)
    with ThreadPoolExecutor(2) as pool:
        reports = [future.result() for future in [pool.submit(site.clean_up) for _ in range(2)]]
    assert sorted(len(report.cleaned) for report in reports) == [0, 3]
    assert not any(report.remaining for report in reports)
    site.assert_nothing_is_left()


@pytest.mark.requirement("R19")
def test_no_secret_is_in_what_is_written_down(site: Site) -> None:
    process, pipe = site.start()
    assert pipe.recv() == "ready"
    (file,) = site.state.files()
    written = file.read_bytes()
    assert PASSWORD.encode() not in written
    assert b"session" not in written
    assert USER.encode() in written, "who logged in is no secret"
    process.kill()
    process.join(PATIENCE)
    said = repr(site.clean_up())
    assert PASSWORD not in said


def vmount_cleanup(site: Site, *arguments: str, **environment: str) -> CompletedProcess[str]:
    """Run the command, which finds its way to the server as govc would."""
    address = f"{site.vcenter.host}:{site.vcenter.port}"
    return subprocess.run(
        [sys.executable, "-m", "vmount", "cleanup", "--state-dir", site.state.path, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(site.state.path.parent),
            "GOVC_URL": f"https://{USER}@{address}/sdk",
            "GOVC_PASSWORD": PASSWORD,
            "GOVC_TLS_CA_CERTS": str(site.vcenter.certificate),
            **environment,
        },
    )


@pytest.mark.requirement("R9")
def test_the_command_cleans_up(site: Site) -> None:
    process, pipe = site.start(port=site.vcenter.port)
    assert pipe.recv() == "ready"
    process.kill()
    process.join(PATIENCE)
    (snapshot,) = trio.run(site.with_machine, snapshots)

    refused = vmount_cleanup(site, GOVC_PASSWORD="wrong")
    assert refused.returncode == 1
    assert f"remains: snapshot {snapshot} of {VM}: " in refused.stdout
    assert f"refused the login of {USER}" in refused.stdout
    assert refused.stdout.endswith("1 cleaned, 2 remaining\n"), "the mount point"

    would = vmount_cleanup(site, "--dry-run", "--json")
    assert would.returncode == 0, would.stdout
    assert [outcome["kind"] for outcome in json.loads(would.stdout)["cleaned"]] == [
        "snapshot",
        "relocation lock",
    ]
    done = vmount_cleanup(site)
    assert done.stdout.splitlines() == [
        f"removed snapshot {snapshot} of {VM}",
        f"unlocked {VM}",
        "2 cleaned, 0 remaining",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert vmount_cleanup(site).stdout == "0 cleaned, 0 remaining\n"
    site.assert_nothing_is_left()
    for run in (refused, would, done):
        assert PASSWORD not in run.stdout + run.stderr
