"""R19, R20, R21: programs that serve a disk for us are started, heard, and ended."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from tests.contracts.backend import BackendContract
from vmount.backends.base import BackendError, BackendTimeout
from vmount.backends.nbd.backend import NbdBackend, open_nbd
from vmount.backends.nbd.process import NbdProcess, NbdProgram
from vmount.state import StateDir
from vmount.state.processes import marked_processes
from vmount.state.undo_records import HelperProcess, TemporaryFolder

LISTENING = ("nbdkit", "--foreground", "--readonly", "--unix", "{socket}", "file", "{disk}")
INETD = ("nbdkit", "--single", "--readonly", "file", "{disk}")


@asynccontextmanager
async def served(
    program: NbdProgram, nursery: trio.Nursery, state: StateDir | None = None
) -> AsyncIterator[NbdBackend]:
    journal = None if state is None else state.journal()
    process = await NbdProcess.start(program, nursery, journal)
    try:
        backend = await open_nbd(f"nbd+unix:///?socket={quote(str(process.socket))}", nursery)
        yield backend
        await backend.aclose()
    finally:
        await process.aclose()
        await process.aclose()
    assert not process.socket.parent.exists()
    if journal is not None:
        assert journal.entries == []
        journal.close()


class TestAProgramThatListens(BackendContract):
    @pytest.fixture
    async def backend(self, image: Path, nursery: trio.Nursery) -> AsyncIterator[NbdBackend]:
        program = NbdProgram("nbdkit", LISTENING, {"disk": str(image)})
        async with served(program, nursery) as backend:
            yield backend

    @pytest.fixture
    def reference(self, content: bytes) -> bytes:
        return content


class TestAProgramOnStandardInputAndOutput(BackendContract):
    @pytest.fixture
    async def backend(self, image: Path, nursery: trio.Nursery) -> AsyncIterator[NbdBackend]:
        program = NbdProgram("nbdkit", INETD, {"disk": str(image)})
        async with served(program, nursery) as backend:
            yield backend

    @pytest.fixture
    def reference(self, content: bytes) -> bytes:
        return content


async def test_it_is_in_the_journal_while_it_runs(
    image: Path, nursery: trio.Nursery, tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    program = NbdProgram("nbdkit", LISTENING, {"disk": str(image)})
    async with served(program, nursery, state):
        ((_, contents),) = state.journals()
        undo_records = contents.undo_records.values()
        (folder,) = [
            undo_record for undo_record in undo_records if isinstance(undo_record, TemporaryFolder)
        ]
        (helper,) = [
            undo_record for undo_record in undo_records if isinstance(undo_record, HelperProcess)
        ]
        assert Path(folder.path).stat().st_mode & 0o777 == 0o700
        assert len(list(marked_processes(helper.mark))) == 1
    assert list(marked_processes(helper.mark)) == []
    assert list(state.journals()) == []


async def test_a_program_for_one_connection_is_started_anew(
    image: Path, content: bytes, nursery: trio.Nursery, tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    program = NbdProgram("nbdkit", INETD, {"disk": str(image)})
    async with served(program, nursery, state) as backend:
        ((_, contents),) = state.journals()
        (helper,) = [
            one for one in contents.undo_records.values() if isinstance(one, HelperProcess)
        ]
        assert await backend.read(0, 1000) == content[:1000]
        for process in marked_processes(helper.mark):
            os.kill(process.pid, 9)
        assert await backend.read(5000, 1000) == content[5000:6000]
        assert backend.stats().reconnects == 1


@pytest.mark.requirement("R19", "R20")
async def test_what_it_says_is_logged_without_secrets(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    script = 'echo "the word is $WORD" >&2; printf "and no newline $WORD" >&2; exit 7'
    program = NbdProgram(
        "talker",
        ("sh", "-c", script, "{socket}"),
        environment={"WORD": "h1dden"},
        secrets=("h1dden",),
    )
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BackendError, match="talker: ended with code 7") as caught:
        await NbdProcess.start(program, nursery)
    assert "the word is ***" in str(caught.value)
    assert "talker: the word is ***" in caplog.text
    assert "and no newline ***" in caplog.text
    assert "h1dden" not in caplog.text + str(caught.value) + repr(program)


@pytest.mark.requirement("R19")
async def test_passwords_of_ours_are_not_in_its_environment(
    image: Path, nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOVC_PASSWORD", "GOVC_URL", "VMOUNT_HTTP_PASSWORD"):
        monkeypatch.setenv(name, "h1dden")
    state = StateDir(tmp_path / "state")
    program = NbdProgram("nbdkit", LISTENING, {"disk": str(image)})
    async with served(program, nursery, state):
        ((_, contents),) = state.journals()
        (helper,) = [
            one for one in contents.undo_records.values() if isinstance(one, HelperProcess)
        ]
        (process,) = marked_processes(helper.mark)
        assert b"h1dden" not in Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.mark.requirement("R21")
async def test_one_that_is_not_there(nursery: trio.Nursery) -> None:
    program = NbdProgram("mine", ("/nonexistent/program", "{socket}"))
    with pytest.raises(BackendError, match="/nonexistent/program cannot be started"):
        await NbdProcess.start(program, nursery)


@pytest.mark.requirement("R38")
async def test_one_that_never_listens(nursery: trio.Nursery) -> None:
    words = ("sh", "-c", "sleep 1000 & wait", "{socket}")
    program = NbdProgram("sleeper", words, start_timeout=0.2)
    with (
        trio.fail_after(15),
        pytest.raises(BackendTimeout, match=r"is not listening after 0\.2 s"),
    ):
        await NbdProcess.start(program, nursery)


def test_values_are_filled_in_once() -> None:
    program = NbdProgram(
        "x", ("{a}", "-{b}-", "{socket}", "{unknown}", "{{a}}"), {"a": "{b}", "b": "{socket}"}
    )
    assert program.words(Path("/s")) == ["{b}", "-{socket}-", "/s", "{unknown}", "{{b}}"]
    assert not program.is_inetd_style
    assert NbdProgram("x", ("{a}",), {"a": "{socket}"}).is_inetd_style
