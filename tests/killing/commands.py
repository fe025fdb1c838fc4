"""The commands that are killed, and what each needs before it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARK = "VMOUNT_KILLING"
"""In the environment of all processes of a try."""
PREPARING = 60.0
"""Seconds for what a try needs before it begins."""


@dataclass(frozen=True)
class Site:
    """What all tries share."""

    disk: Path
    socket: Path | None
    """Of a clamd."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """That names a vCenter."""


@dataclass
class Place:
    """What one try has for itself: a state folder, a mount point, a folder for temporary files."""

    site: Site
    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        for name in ("mnt", "tmp", "out"):
            (self.folder / name).mkdir(parents=True)

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mnt"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C",
            "HOME": str(self.folder),
            "TMPDIR": str(self.temporary),
            MARK: self.mark,
            **self.site.environment,
        }

    def command(self, *arguments: str | Path) -> list[str]:
        words = [str(argument) for argument in arguments]
        return [sys.executable, "-m", "vmount", *words, "--state-dir", str(self.state)]

    def run(self, *arguments: str | Path, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command undisturbed."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            errors="replace",
            check=check,
            env=self.environment(),
            cwd=ROOT,
            timeout=PREPARING,
        )

    def mount(self) -> None:
        self.run(self.site.disk, self.mountpoint, check=True)

    def leave_a_dead_mount(self) -> None:
        command = self.command("--foreground", "--json", self.site.disk, self.mountpoint)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env=self.environment(), cwd=ROOT
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class Command:
    """A command line, made for a place."""

    words: Callable[[Place], list[str | Path]]
    prepare: Callable[[Place], None] = lambda _: None


def of_disk(*words: str, after: tuple[str, ...] = ()) -> Command:
    return Command(lambda place: [*words, place.site.disk, *after])


ENGINE = "sh -c 'cat \"$0\" >/dev/null; sleep 0.05'"

COMMANDS = {
    "mount": Command(lambda place: [place.site.disk, place.mountpoint]),
    "mount -f": Command(lambda place: ["-f", place.site.disk, place.mountpoint]),
    "umount": Command(lambda place: ["umount", place.mountpoint], Place.mount),
    "volumes": Command(lambda place: ["volumes", place.mountpoint], Place.mount),
    "ls": of_disk("ls", "-l", "-R"),
    "cat": of_disk("cat", after=("disks/disk0.raw",)),
    "cp": Command(lambda place: ["cp", place.site.disk, "volumes", place.folder / "out"]),
    "find": of_disk("find"),
    "diff": Command(lambda place: ["diff", place.site.disk, place.site.disk]),
    "info": of_disk("info"),
    "scan clamd": Command(
        lambda place: ["scan", "--socket", str(place.site.socket), place.site.disk]
    ),
    "scan clamscan": of_disk("scan", "--engine", "clamscan"),
    "scan command": of_disk("scan", "--engine", ENGINE),
    "status": Command(lambda _: ["status"], Place.mount),
    "cleanup": Command(lambda _: ["cleanup"], Place.leave_a_dead_mount),
    "vms": Command(lambda _: ["vms"]),
    "doctor": Command(lambda _: ["doctor", "vm-57"]),
}
NEED_CLAMD = {"scan clamd"}
NEED_VCENTER = {"vms", "doctor"}
