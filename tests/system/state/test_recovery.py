"""What `vmount cleanup` does with what dead processes have left on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from vmount.errors import VmountError
from vmount.jobs.cleanup import Outcome, Recovery, Report
from vmount.state import StateDir
from vmount.state.journal import Journal
from vmount.state.processes import MARK, process_start
from vmount.state.undo_records import (
    AttachedDisk,
    HelperProcess,
    MountPoint,
    RelocationLock,
    Server,
    Snapshot,
    TemporaryFolder,
    UndoRecord,
)

SERVER = Server("vcenter.example")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


Leave = Callable[..., Journal]


@pytest.fixture
def leave(state: StateDir) -> Leave:
    def leave(*undo_records: UndoRecord) -> Journal:
        """Leave things as a process that was killed does: nobody holds its journal any more."""
        journal = state.journal()
        for undo_record in undo_records:
            journal.begin(undo_record)
        journal.close()
        return journal

    return leave


def no_server(server: Server) -> object:
    raise VmountError(f"{server.host}: cannot be reached")


def clean_up(state: StateDir, *, dry_run: bool = False, hosts: tuple[str, ...] = ()) -> Report:
    told: list[Outcome] = []
    recovery = Recovery(
        state,
        no_server,  # type: ignore[arg-type] # it never returns
        told.append,
        dry_run=dry_run,
        hosts=frozenset(hosts),
    )
    report = trio.run(recovery.run)
    assert sorted(map(repr, told)) == sorted(map(repr, report.cleaned + report.remaining))
    return report


def done(report: Report) -> list[str]:
    assert not report.remaining
    return [outcome.done for outcome in report.cleaned]


def sleeper(mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: mark})


@pytest.mark.requirement("R9")
def test_undone_backwards_and_once(state: StateDir, leave: Leave, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "socket").touch()
    leave(TemporaryFolder(str(first)), TemporaryFolder(str(second)), MountPoint("/nowhere", ()))
    would = clean_up(state, dry_run=True)
    assert [outcome.kind for outcome in would.cleaned] == [
        "mount point",
        "temporary folder",
        "temporary folder",
    ]
    assert first.exists()
    assert done(clean_up(state)) == [
        "/nowhere is no longer mounted",
        f"removed {second}",
        f"removed {first}",
    ]
    assert not first.exists()
    assert clean_up(state) == Report()
    assert not list(state.path.iterdir())


def test_a_folder_that_is_gone_or_a_link_now(state: StateDir, leave: Leave, tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.mkdir()
    link.symlink_to(precious)
    leave(TemporaryFolder(str(tmp_path / "gone")), TemporaryFolder(str(link)))
    report = clean_up(state)
    assert [outcome.done for outcome in report.cleaned] == [
        f"temporary folder {tmp_path / 'gone'} no longer exists"
    ]
    assert "is a link instead of the folder" in report.remaining[0].reason
    assert precious.exists()


def test_a_helper_is_ended(state: StateDir, leave: Leave) -> None:
    with sleeper("0123") as helper:
        started = process_start(helper.pid)
        assert started is not None
        leave(HelperProcess("sleep", "0123", helper.pid, started))
        assert done(clean_up(state)) == [f"ended process {helper.pid} (sleep)"]
        assert helper.wait(5) == -15


def test_a_helper_is_found_whose_number_was_never_written(state: StateDir, leave: Leave) -> None:
    with sleeper("4567") as helper, sleeper("89ab") as other:
        leave(HelperProcess("sleep", "4567"))
        assert done(clean_up(state)) == [f"ended process {helper.pid} (sleep)"]
        assert helper.wait(5) == -15
        assert other.poll() is None
        other.kill()


def test_a_helper_that_takes_no_notice_is_killed(state: StateDir, leave: Leave) -> None:
    deaf = (
        "import signal, sys; signal.signal(15, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as helper:
        assert helper.stdout is not None
        helper.stdout.readline()
        started = process_start(helper.pid)
        assert started is not None
        leave(HelperProcess("deaf", "cdef", helper.pid, started))
        assert done(clean_up(state)) == [f"ended process {helper.pid} (deaf)"]
        assert helper.wait(5) == -9


def test_a_number_that_is_used_again_is_nobody_to_be_killed(state: StateDir, leave: Leave) -> None:
    with sleeper("x") as innocent:
        started = process_start(innocent.pid)
        assert started is not None
        leave(HelperProcess("nbdkit", "y", innocent.pid, started - 1))
        assert done(clean_up(state)) == [f"process {innocent.pid} (nbdkit) has already ended"]
        assert innocent.poll() is None
        innocent.kill()


def test_what_a_living_process_has_done_is_left_to_it(state: StateDir, tmp_path: Path) -> None:
    with state.journal() as journal:
        entry = journal.begin(TemporaryFolder(str(tmp_path)))
        assert clean_up(state) == Report()
        assert tmp_path.exists()
        entry.end()


@pytest.mark.requirement("R9")
def test_a_server_that_is_away_is_told_of_and_its_things_stay(
    state: StateDir, leave: Leave, tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    undo_records = (
        TemporaryFolder(str(folder)),
        RelocationLock(SERVER, "vm-1", "vmount/x"),
        Snapshot(SERVER, "vm-1", "name"),
        AttachedDisk(SERVER, "vm-2", "[ds] a.vmdk"),
    )
    journal = leave(*undo_records)
    report = clean_up(state)
    assert [outcome.kind for outcome in report.cleaned] == ["temporary folder"]
    assert [outcome.reason for outcome in report.remaining] == [
        "vcenter.example: cannot be reached",
        "its disks may still be in use (see above)",
        "vcenter.example: cannot be reached",
    ]
    again = Journal.adopt(journal.path)
    assert again is not None
    assert [entry.undo_record for entry in again.entries] == list(undo_records[1:])
    again.close()


def test_another_machines_processes_are_not_judged_from_here(
    state: StateDir, leave: Leave, tmp_path: Path
) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    path = leave(TemporaryFolder(str(folder))).path
    head, *rest = path.read_text().splitlines(keepends=True)
    values = json.loads(head)
    values["process"]["host"] = "elsewhere"
    path.write_text(json.dumps(values) + "\n" + "".join(rest))
    (outcome,) = clean_up(state).remaining
    assert "belongs to a process of host 'elsewhere'" in outcome.reason
    assert "--host elsewhere" in outcome.reason
    assert "no longer exists: its VM was removed" in done(clean_up(state, hosts=("elsewhere",)))[0]
    assert folder.exists(), "the folder of that name on this machine is another one"


def test_what_cannot_be_understood_is_told_of(state: StateDir, leave: Leave) -> None:
    path = leave(TemporaryFolder("/x")).path
    path.write_text(path.read_text().replace("temporary folder", "portal"))
    (outcome,) = clean_up(state).remaining
    assert "this version of vmount cannot undo it" in outcome.reason
    path.write_text("{}\n")
    (outcome,) = clean_up(state).remaining
    assert (outcome.undo_record, "not a journal" in outcome.reason) == (str(path), True)


def test_a_process_killed_before_it_did_anything(state: StateDir, leave: Leave) -> None:
    path = leave(TemporaryFolder("/x")).path
    path.write_bytes(b"")
    assert clean_up(state) == Report()
    assert not path.exists()
