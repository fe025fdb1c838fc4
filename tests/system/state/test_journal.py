"""Journals: what they say after a crash at any byte, whose they are, and who may go on with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmount.errors import VmountError
from vmount.state import Journal, MountRecord, StateDir
from vmount.state.journal import JournalError, parse, read
from vmount.state.undo_records import (
    AttachedDisk,
    HelperProcess,
    MountPoint,
    RelocationLock,
    Server,
    Snapshot,
    TemporaryFolder,
    UndoRecord,
    Unknown,
    decode,
    encode,
)

SERVER = Server("vcenter.example", 443, "backup@vsphere.local", "", "prod", "1234-abcd")
UNDO_RECORDS: list[UndoRecord] = [
    MountPoint("/mnt/\udcff x", ("vm-42", "a\nb")),
    RelocationLock(SERVER, "vm-42", "vmount/abc/host"),
    RelocationLock(SERVER, "vm-42", "vmount/abc/host", True),
    Snapshot(SERVER, "vm-42", "vmount host[1] ..."),
    AttachedDisk(SERVER, "vm-7", "[ds@1] a b/ç%#?&.vmdk", "6000C29-x", 2001),
    HelperProcess("nbdkit", "0123", 12, 345),
    TemporaryFolder("/tmp/x"),
]
DIE_WITH_A_RECORD = """
import os, sys
from pathlib import Path
from vmount.state import StateDir
from vmount.state.undo_records import MountPoint, TemporaryFolder
journal = StateDir(Path(sys.argv[1])).journal()
journal.begin(MountPoint("/mnt/a", ("disk.vmdk",)))
journal.begin(TemporaryFolder(sys.argv[2])).end()
print(journal.path, flush=True)
sys.stdin.read()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def left_behind(state: StateDir) -> Path:
    """Let a process write a journal and be killed; return the file."""
    done = subprocess.run(
        [sys.executable, "-c", DIE_WITH_A_RECORD, state.path, "/tmp/x"],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    return Path(done.stdout.decode().strip())


@pytest.mark.parametrize("undo_record", UNDO_RECORDS, ids=lambda undo_record: undo_record.KIND)
def test_a_thing_is_read_as_it_was_written(undo_record: UndoRecord) -> None:
    assert decode(json.loads(json.dumps(encode(undo_record)))) == undo_record


def test_nothing_is_written_before_something_is_begun(state: StateDir) -> None:
    with state.journal():
        pass
    assert not state.path.exists()


def test_what_is_begun_is_on_the_disk_until_it_is_ended(state: StateDir) -> None:
    with state.journal() as journal:
        entries = [journal.begin(undo_record) for undo_record in UNDO_RECORDS]
        assert list(read(journal.path).undo_records.values()) == UNDO_RECORDS
        assert journal.path.stat().st_mode & 0o777 == 0o600
        for entry in reversed(entries):
            entry.end()
            entry.end()
        assert not read(journal.path).undo_records
    assert not list(state.path.iterdir())


def test_what_becomes_known_later_is_added(state: StateDir) -> None:
    with state.journal() as journal:
        entry = journal.begin(Snapshot(SERVER, "vm-42", "name"))
        entry.update(Snapshot(SERVER, "vm-42", "name", "snapshot-9"))
        (undo_record,) = read(journal.path).undo_records.values()
        assert undo_record == Snapshot(SERVER, "vm-42", "name", "snapshot-9")
        entry.end()


def test_a_journal_cut_at_any_byte_tells_what_was_whole(state: StateDir) -> None:
    with state.journal() as journal:
        for undo_record in UNDO_RECORDS[:3]:
            journal.begin(undo_record)
        text = journal.path.read_bytes()
        for entry in journal.entries:
            entry.end()
    lines = text.splitlines(keepends=True)
    for length in range(len(text) + 1):
        whole = [
            line for count, line in enumerate(lines) if sum(map(len, lines[: count + 1])) <= length
        ]
        assert (
            list(parse(text[:length]).undo_records.values())
            == UNDO_RECORDS[: max(0, len(whole) - 1)]
        )


def test_whoever_goes_on_writes_after_the_last_whole_line(state: StateDir) -> None:
    path = left_behind(state)
    path.write_bytes(path.read_bytes() + b'{"begin": 9, "kin')
    journal = Journal.adopt(path)
    assert journal is not None
    (entry,) = journal.entries
    entry.update(MountPoint("/mnt/b", ()))
    assert list(read(path).undo_records.values()) == [MountPoint("/mnt/b", ())]
    entry.end()
    journal.close()
    assert not path.exists()


@pytest.mark.parametrize(
    "text", [b"[]\n", b"x\n", b'{"begin": 1}\n', b"\xff\xfe\n", b'{"process": {"pid": 1}}\n']
)
def test_what_is_no_journal_is_refused(text: bytes) -> None:
    with pytest.raises(JournalError):
        parse(text)


def test_an_entry_of_another_version_is_kept_as_it_is() -> None:
    fields = {"kind": "portal", "values": {"where": 3}}
    assert decode(fields) == Unknown("portal", {"where": 3})
    assert encode(decode(fields)) == fields
    newer = {"kind": "temporary folder", "values": {"path": "/x", "owner": 1}}
    assert isinstance(decode(newer), Unknown)


@pytest.mark.requirement("R9")
def test_the_journal_of_a_living_process_is_nobody_elses(state: StateDir) -> None:
    with state.journal() as journal:
        entry = journal.begin(TemporaryFolder("/tmp/x"))
        assert Journal.adopt(journal.path) is None
        entry.end()


@pytest.mark.requirement("R9")
def test_the_journal_of_a_killed_process_goes_on(state: StateDir) -> None:
    path = left_behind(state)
    (record,) = state.records()
    assert isinstance(record, MountRecord)
    assert not record.process.is_alive
    assert not record.process.is_elsewhere
    journal = Journal.adopt(path)
    assert journal is not None
    assert Journal.adopt(path) is None, "one at a time"
    assert [entry.undo_record for entry in journal.entries] == [
        MountPoint("/mnt/a", ("disk.vmdk",))
    ]
    journal.close()
    assert path.exists(), "what was not ended stays"


def test_a_child_process_keeps_no_hold_of_the_journal(state: StateDir) -> None:
    journal = state.journal()
    journal.begin(TemporaryFolder("/tmp/x"))
    with subprocess.Popen(["sleep", "60"]) as child:
        journal.close()
        adopted = Journal.adopt(journal.path)
        child.kill()
    assert adopted is not None
    adopted.close()


def test_a_full_disk_is_told_before_anything_is_done(state: StateDir) -> None:
    limited = (
        "import resource, sys, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from pathlib import Path; from vmount.state import StateDir;"
        "from vmount.state.undo_records import TemporaryFolder;"
        "journal = StateDir(Path(sys.argv[1])).journal();"
        "journal.begin(TemporaryFolder('/a'));"
        "size = journal.path.stat().st_size;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, size + 10));"
        "journal.begin(TemporaryFolder('/b'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, state.path], capture_output=True, text=True, check=False
    )
    assert "VmountError: cannot record temporary folder /b" in done.stderr
    assert "state_dir" in done.stderr
    (file,) = state.files()
    assert list(read(file).undo_records.values()) == [TemporaryFolder("/a")]


@pytest.mark.requirement("R18")
def test_a_folder_that_others_may_write_to_is_refused(state: StateDir) -> None:
    left_behind(state)
    state.path.chmod(0o777)
    assert not state.files()
    with pytest.raises(VmountError, match="other users can write"):
        state.journal().begin(TemporaryFolder("/tmp/x"))


def test_a_lock_is_held_by_one_and_leaves_no_file(state: StateDir) -> None:
    held = state.try_lock("relocation-1")
    assert held is not None
    assert state.try_lock("relocation-1") is None
    other = state.try_lock("relocation-2")
    assert other is not None
    state.release("relocation-2", other)
    state.release("relocation-1", held)
    assert not os.listdir(state.path)
