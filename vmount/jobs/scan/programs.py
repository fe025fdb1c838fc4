"""Scanners that are programs: clamscan, or any command that is given a file's path.

They are given the files of a mount, so that they read what they like and no more.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import ScannerError, UsageError
from vmount.interruption import deferred
from vmount.jobs.scan.engine import CLEAN, MOST, Verdict, clamav_verdict, default_largest
from vmount.state.processes import MARK
from vmount.state.undo_records import HelperProcess

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterator, Sequence

    from vmount.state import Entry, StateDir

CLAMSCAN = "clamscan"
VERSION_LIMIT = 60.0
"""Seconds."""
FOUND_CODE = 1
"""Exit code of a command that has found something, as of clamscan, and of most others."""


class Programs:
    """Starts programs that end with the scan, whatever ends it; the journal names one that is left by SIGKILL."""

    def __init__(self, state: StateDir) -> None:
        self._journal = state.journal()
        self._mark = secrets.token_hex(8)
        self._entry: Entry | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(
        self, words: Sequence[str], *, pass_fds: Sequence[int] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program in a group of its own, which does not outlive the context.

        A terminal's Ctrl-C is for the scan, which ends the program: it would report a failure otherwise.
        """
        if self._entry is None:
            self._entry = self._journal.begin(HelperProcess(Path(words[0]).name, self._mark))
        process: subprocess.Popen[bytes] | None = None
        try:
            with deferred():  # what was started is known, or was not started
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=pass_fds,
                    env={**os.environ, MARK: self._mark},
                    start_new_session=True,
                )
                self._process = process
            yield process
        finally:
            if process is not None:
                _end(process)
            self._process = None

    def close(self) -> None:
        """End what still runs: another thread may wait for it."""
        process = self._process
        if process is not None:
            _kill(process)
        if self._entry is not None:
            self._entry.end()
        self._journal.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and its children, unless it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program, unless it has ended, and let go of it."""
    _kill(process)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


@contextmanager
def _list_of_names(paths: Sequence[str]) -> Iterator[int]:
    """Give the descriptor of a file in memory with a path a line: nothing of it can be left behind."""
    descriptor = os.memfd_create("files")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(b"".join(os.fsencode(path) + b"\n" for path in paths))
        yield descriptor
    finally:
        os.close(descriptor)


class Clamscan:
    """clamscan(1): one process for many files; loading its signatures takes it seconds."""

    is_limit_known = True
    advice = "raise the limit with --max-size"

    def __init__(
        self, programs: Programs, arguments: Sequence[str] = (), largest: int | None = None
    ) -> None:
        """`largest`: bytes of the largest file that it is to scan; None: as it does by default."""
        self._programs = programs
        # What it does not scan to its end it is to tell of, or it would say OK.
        self._command = [_program(CLAMSCAN), "--alert-exceeds-max=yes", *arguments]
        self.largest = None if largest is None else min(largest, MOST)
        if self.largest is not None:
            # An archive may have four times as much in it, as by default.
            self._command.append(f"--max-filesize={self.largest}")
            self._command.append(f"--max-scansize={min(4 * self.largest, MOST)}")

    def close(self) -> None:
        """End the program if it runs."""
        self._programs.close()

    def version(self) -> str:
        """Return the versions of the program and its signatures. Raises ScannerError."""
        version = _first_line([*self._command[:1], "--version"])
        if self.largest is None:
            self.largest = default_largest(version)
        return version

    def scan_paths(self, paths: Sequence[str]) -> Generator[tuple[str, Verdict], None, None]:
        """Scan files by their paths, in this order. Raises ScannerError if the program fails."""
        listed = [path for path in paths if "\n" not in path]
        if not listed:
            # Without a file it would scan the folder that it is in.
            yield from ((path, _LINE_BREAK) for path in paths)
            return
        for path in paths:
            if "\n" in path:
                yield path, _LINE_BREAK
        waiting = dict.fromkeys(listed)
        with _list_of_names(listed) as names:
            command = [*self._command, "--stdout", "--no-summary", f"--file-list=/dev/fd/{names}"]
            with self._programs.running(command, pass_fds=(names,)) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    path, verdict = _clamscan_line(os.fsdecode(line.rstrip(b"\n")), waiting)
                    if path in waiting:
                        del waiting[path]
                        yield path, verdict
                _, told = process.communicate()
            code = process.returncode
        if code not in (0, 1, 2) or (code == 2 and len(waiting) == len(listed)):
            text = told.decode("utf-8", "replace").strip().splitlines()
            raise ScannerError(f"clamscan: {text[-1] if text else f'exit code {code}'}")
        for path in waiting:
            yield path, Verdict(None, "clamscan did not scan it")


class Command:
    """Any command. `{}` in it stands for the path; without it the path comes last."""

    largest: int | None = None
    is_limit_known = True
    advice = ""

    def __init__(self, text: str, programs: Programs) -> None:
        self._programs = programs
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"--engine {text}: {str(error).lower()}") from error
        if not words:
            raise UsageError("--engine: no command")
        self._words = [_program(words[0]), *words[1:]]
        if not any("{}" in word for word in words):
            self._words.append("{}")

    def close(self) -> None:
        """End the program if it runs."""
        self._programs.close()

    def version(self) -> str:
        """Return the command."""
        return shlex.join(self._words)

    def scan_paths(self, paths: Sequence[str]) -> Generator[tuple[str, Verdict], None, None]:
        """Run the command for each file: 0 means clean, 1 found, all else a failure."""
        for path in paths:
            words = [word.replace("{}", path) for word in self._words]
            try:
                with self._programs.running(words) as process:
                    output, errors = process.communicate()
            except OSError as error:
                raise ScannerError(f"{words[0]}: {error.strerror}") from error
            # A path may have a line break in it.
            text = os.fsdecode(output).replace(f"{path}: ", "")
            lines = [line for line in text.splitlines() if line]
            if process.returncode == 0:
                yield path, Verdict(None)
            elif process.returncode == FOUND_CODE:
                yield path, Verdict(_finding(lines))
            else:
                told = errors.decode("utf-8", "replace").strip().splitlines() or lines
                reason = f"exit code {process.returncode}{': ' + told[-1] if told else ''}"
                yield path, Verdict(None, f"{Path(words[0]).name}: {reason}")


_LINE_BREAK = Verdict(None, "clamscan cannot scan names with a line break; clamd can")


def _clamscan_line(line: str, wanted: Container[str]) -> tuple[str, Verdict]:
    """Read "PATH: OK", "PATH: Eicar-Signature FOUND", "PATH: Can't read file ERROR", "PATH: Empty file"."""
    matched = re.fullmatch(r"(.*): (.*)", line, re.DOTALL)
    if matched is None:
        return "", Verdict(None, line)
    path, text = matched.groups()
    if path not in wanted and (shorter := line.partition(": ")[0]) in wanted:
        path, text = shorter, line[len(shorter) + 2 :]
    if text == "Empty file" and _is_empty(path):
        return path, CLEAN
    return path, clamav_verdict(CLAMSCAN, text)


def _is_empty(path: str) -> bool:
    try:
        return Path(path).lstat().st_size == 0
    except OSError:
        return False


def _finding(lines: Sequence[str]) -> str:
    """Return the name of what a command has found: that in "NAME FOUND", as of clamscan, or its last line."""
    if not lines:
        return "found"
    line = next((line for line in lines if line.endswith(" FOUND")), lines[-1])
    return line.removesuffix(" FOUND") or "found"


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        remedy = "install clamav" if name == CLAMSCAN else "give another program with --engine"
        raise UsageError(f"{name}: not installed", remedy=remedy)
    return found


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VERSION_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ScannerError(f"{command[0]}: does not answer") from error
    return done.stdout.strip().partition("\n")[0]
