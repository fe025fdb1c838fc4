"""Running the command as a user who is not root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmount as program
from fixtures.programs import run
from vmount.mounting.mountinfo import find_mount

NOBODY = 65534
PYTHON = Path("/usr/bin/python3")


class Nobody:
    """A user with a folder of its own, and in it a disk, a mount point and a copy of the program."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        (folder / "mnt").mkdir()
        shutil.copyfile(image, folder / "disk.img")
        for path in (folder, folder / "mnt", folder / "disk.img"):
            os.chown(path, NOBODY, NOBODY)
        places = [Path(program.__file__).parent.parent, *map(Path, sys.path)]
        for package in ("vmount", "parsers"):
            shutil.copytree(places[0] / package, folder / package)
        site = [path for path in places if path.name == "site-packages"]
        if not all(_readable_by_all(path) for path in site):
            pytest.skip("the libraries are in a folder that other users may not read")
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(map(str, [folder, *site])),
        }

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the folder; `vmount` is the command."""
        command = f'vmount() {{ {PYTHON} -m vmount "$@" --state-dir state; }}; {script}'
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return subprocess.run(
            ["setpriv", *user, "sh", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def nobody(image: Path) -> Iterator[Nobody]:
    """Let a user without privileges have a disk."""
    probe = "import sys; print(sys.version_info[:2])"
    if not PYTHON.exists() or subprocess.run(
        [PYTHON, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.strip() != str(sys.version_info[:2]):
        pytest.skip("no Python that another user may run has the version of ours")
    folder = Path("/tmp") / f"vmount-test-{os.getpid()}"
    folder.mkdir()
    try:
        yield Nobody(folder, image)
    finally:
        if find_mount(str(folder / "mnt")) is not None:
            run("umount", "--lazy", str(folder / "mnt"))
        shutil.rmtree(folder)


def _readable_by_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o005 == 0o005 for part in (path, *path.parents))
