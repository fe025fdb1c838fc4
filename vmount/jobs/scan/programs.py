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

from vmount.errors import UsageError, VmountError
from vmount.jobs.scan.engine import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLAMSCAN = "clamscan"
CLAMSCAN_LARGEST = 100 << 20
"""Bytes: its --max-filesize, unless it is told another."""
VERSION_LIMIT = 60.0
"""Seconds."""
FOUND_CODE = 1
"""Exit code of a command that has found something, as of clamscan, and of most others."""


class Clamscan:
    """clamscan(1): one process for many files; loading its signatures takes it seconds."""

    largest: int | None = CLAMSCAN_LARGEST

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self._command = [_program(CLAMSCAN), *arguments]

    def version(self) -> str:
        """Return the versions of the program and its signatures. Raises VmountError."""
        return _first_line([*self._command[:1], "--version"])

    def scan_paths(self, paths: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
        """Scan files by their paths, in this order. Raises VmountError if the program fails."""
        listed = [path for path in paths if "\n" not in path]
        for path in paths:
            if "\n" in path:
                yield path, Verdict(None, "clamscan takes no name with a line break; clamd does")
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
                    path, verdict = _clamscan_line(os.fsdecode(line.rstrip(b"\n")))
                    if path in waiting:
                        del waiting[path]
                        yield path, verdict
                _, told = process.communicate()
            code = process.returncode
        if code not in (0, 1, 2) or (code == 2 and len(waiting) == len(listed)):
            text = told.decode("utf-8", "replace").strip().splitlines()
            raise VmountError(f"clamscan: {text[-1] if text else f'exit code {code}'}")
        for path in waiting:
            yield path, Verdict(None, "clamscan has not scanned it")


class Command:
    """Any command. `{}` in it stands for the path; without it the path comes last."""

    largest: int | None = None

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
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line]
            if done.returncode == 0:
                yield path, Verdict(None)
            elif done.returncode == FOUND_CODE:
                yield path, Verdict(lines[-1] if lines else "found")
            else:
                told = done.stderr.decode("utf-8", "replace").strip().splitlines() or lines
                reason = f"exit code {done.returncode}{': ' + told[-1] if told else ''}"
                yield path, Verdict(None, f"{Path(words[0]).name}: {reason}")


def _clamscan_line(line: str) -> tuple[str, Verdict]:
    """Read "PATH: OK", "PATH: Eicar-Signature FOUND", "PATH: Access denied ERROR"."""
    matched = re.fullmatch(r"(.*): (.*)", line, re.DOTALL)
    if matched is None:
        return "", Verdict(None, line)
    path, text = matched.groups()
    if text in {"OK", "Empty file"}:
        return path, Verdict(None)
    if text.endswith(" FOUND"):
        return path, Verdict(text.removesuffix(" FOUND"))
    return path, Verdict(None, f"clamscan: {text.removesuffix(' ERROR')}")


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
        raise VmountError(f"{command[0]}: does not answer") from error
    return done.stdout.strip().partition("\n")[0]
