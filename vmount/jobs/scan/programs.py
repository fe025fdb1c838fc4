"""Scanners that are programs: clamscan, or any command that is given a file's path.

They are given the files of a mount, so that they read what they like and no more.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import ScannerError, UsageError
from vmount.jobs.scan.engine import CLEAN, MOST, Verdict, clamav_verdict, default_largest

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

CLAMSCAN = "clamscan"
VERSION_LIMIT = 60.0
"""Seconds."""
FOUND_CODE = 1
"""Exit code of a command that has found something, as of clamscan, and of most others."""


class Clamscan:
    """clamscan(1): one process for many files; loading its signatures takes it seconds."""

    is_limit_known = True
    advice = "raise it with --max-size"

    def __init__(self, arguments: Sequence[str] = (), largest: int | None = None) -> None:
        """`largest`: bytes of the largest file that it is to scan; None: as it does by default."""
        # What it does not scan to its end it is to tell of, or it would say OK.
        self._command = [_program(CLAMSCAN), "--alert-exceeds-max=yes", *arguments]
        self.largest = None if largest is None else min(largest, MOST)
        if self.largest is not None:
            # An archive may have four times as much in it, as by default.
            self._command.append(f"--max-filesize={self.largest}")
            self._command.append(f"--max-scansize={min(4 * self.largest, MOST)}")

    def version(self) -> str:
        """Return the versions of the program and its signatures. Raises ScannerError."""
        version = _first_line([*self._command[:1], "--version"])
        if self.largest is None:
            self.largest = default_largest(version)
        return version

    def scan_paths(self, paths: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
        """Scan files by their paths, in this order. Raises ScannerError if the program fails."""
        listed = [path for path in paths if "\n" not in path]
        if not listed:
            # Without a file it would scan the folder that it is in.
            yield from ((path, _LINE_BREAK) for path in paths)
            return
        for path in paths:
            if "\n" in path:
                yield path, _LINE_BREAK
        with tempfile.TemporaryDirectory(prefix="vmount-scan-") as folder:
            names = Path(folder) / "files"
            names.write_bytes(b"".join(os.fsencode(path) + b"\n" for path in listed))
            command = [*self._command, "--stdout", "--no-summary", f"--file-list={names}"]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                waiting = dict.fromkeys(listed)
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
            yield path, Verdict(None, "clamscan has not scanned it")


class Command:
    """Any command. `{}` in it stands for the path; without it the path comes last."""

    largest: int | None = None
    is_limit_known = True
    advice = ""

    def __init__(self, text: str) -> None:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"--engine {text}: {str(error).lower()}") from error
        if not words:
            raise UsageError("--engine: no command")
        self._words = [_program(words[0]), *words[1:]]
        if not any("{}" in word for word in words):
            self._words.append("{}")

    def version(self) -> str:
        """Return the command."""
        return shlex.join(self._words)

    def scan_paths(self, paths: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
        """Run the command for each file: 0 means clean, 1 found, all else a failure."""
        for path in paths:
            words = [word.replace("{}", path) for word in self._words]
            try:
                done = subprocess.run(
                    words, stdin=subprocess.DEVNULL, capture_output=True, check=False
                )
            except OSError as error:
                raise ScannerError(f"{words[0]}: {error.strerror}") from error
            # A path may have a line break in it.
            text = os.fsdecode(done.stdout).replace(f"{path}: ", "")
            lines = [line for line in text.splitlines() if line]
            if done.returncode == 0:
                yield path, Verdict(None)
            elif done.returncode == FOUND_CODE:
                yield path, Verdict(_finding(lines))
            else:
                told = done.stderr.decode("utf-8", "replace").strip().splitlines() or lines
                reason = f"exit code {done.returncode}{': ' + told[-1] if told else ''}"
                yield path, Verdict(None, f"{Path(words[0]).name}: {reason}")


_LINE_BREAK = Verdict(None, "clamscan takes no name with a line break; clamd does")


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
        remedy = "install clamav" if name == CLAMSCAN else "name a program with --engine"
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
