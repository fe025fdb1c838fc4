"""Running the command as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from fixtures import guests
from tests.support.paths import ROOT

TIMEOUT = 120
OWNER_OPTIONS = {"--owner", "-o"}


class Vmount:
    """The command, with a state folder of its own, in the poorest of locales (R17)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.environment = {"PATH": os.environ["PATH"], "LANG": "C", "HOME": "/nonexistent"}
        self._count = 0

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run the command."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            check=False,
            env=self.environment,
            cwd=ROOT,
            timeout=TIMEOUT,
        )
        if check and done.returncode:
            raise AssertionError(f"exit code {done.returncode}: {done.stderr.decode()}")
        return done

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line."""
        words = [str(argument) for argument in arguments]
        return [sys.executable, "-m", "vmount", *words, "--state-dir", str(self.state)]

    def error(self, *arguments: str | Path, code: int) -> str:
        """Run the command, which must fail with `code` and say why in one line; return the line."""
        done = self.run(*arguments, check=False)
        text = done.stderr.decode("utf-8", "surrogateescape")
        assert done.returncode == code, text
        lines = text.splitlines()
        assert lines[-1].startswith("vmount"), text
        assert "Traceback" not in text
        return lines[-1]

    def new_mountpoint(self) -> Path:
        """Return a new empty directory."""
        self._count += 1
        path = self.folder / f"mnt{self._count}"
        path.mkdir()
        return path

    @contextmanager
    def mounted(self, *arguments: str | Path) -> Iterator[Path]:
        """Mount, in the background as usual, and unmount; owners and modes are those that peers show."""
        mountpoint = self.new_mountpoint()
        owner = () if OWNER_OPTIONS.intersection(arguments) else ("--owner", "me")
        self.run(*owner, *arguments, mountpoint)
        try:
            yield mountpoint
        finally:
            self.run("umount", "--force", mountpoint)
            mountpoint.rmdir()


Mounted = Callable[..., AbstractContextManager[Path]]


@pytest.fixture
def vmount(tmp_path: Path) -> Vmount:
    return Vmount(tmp_path)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def windows(images: Path) -> list[Path]:
    """The disks of a Windows guest."""
    return guests.build_windows(images / "windows")


@pytest.fixture(scope="session")
def linux(images: Path) -> Path:
    """The disk of a Linux guest with a tree of several volumes."""
    return guests.build_linux(images / "linux")
