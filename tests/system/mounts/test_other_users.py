"""`--allow-other`: what another user of this machine may read of a mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import mounted
from fixtures.programs import run

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount

OWNER, NAMED, OTHER = 1000, 4711, 65534
GROUP, NAMED_GROUP = 2000, 4712
USERS = [(user, group) for user in (OWNER, NAMED, OTHER) for group in (GROUP, NAMED_GROUP, OTHER)]

LISTS = {
    "plain": (0o600, ""),
    "shown": (0o644, ""),
    "named may": (0o600, f"u:{NAMED}:r"),
    "named may not": (0o644, f"u:{NAMED}:---"),
    "the group has less than the mask": (0o600, f"g::---,u:{NAMED}:r,m::r"),
    "the mask takes": (0o640, f"u:{NAMED}:r,m::---"),
    "named group may": (0o600, f"g:{NAMED_GROUP}:r"),
    "named group may not": (0o644, f"g:{NAMED_GROUP}:---"),
}


@pytest.fixture(scope="module")
def image(images: Path) -> Path:
    image = images / "lists.img"
    run("mke2fs", "-q", "-F", "-t", "ext4", str(image), "8M")
    with mounted(image) as top:
        top.chmod(0o755)
        for name, (mode, entries) in LISTS.items():
            folder = top / f"folder {name}"
            folder.mkdir()
            for path in (top / name, folder / "inside"):
                path.write_text("the content")
                path.chmod(0o644)
            for path in (top / name, folder):
                os.chown(path, OWNER, GROUP)
                path.chmod(mode | (mode & 0o444) >> 2 if path == folder else mode)
                if entries:
                    allowed = entries.replace(":r", ":rx") if path == folder else entries
                    run("setfacl", "-m", allowed, str(path))
    return image


def readable(top: Path, user: int, group: int) -> list[str]:
    """Return what a user may read below a directory that he need not be able to come to."""
    paths = sorted(f"{folder}{name}" for name in LISTS for folder in ("./", "./folder "))
    places = [f"{path}/inside" if path.startswith("./folder") else path for path in paths]
    script = 'for path; do cat "$path" >/dev/null 2>&1 && echo "$path"; done; true'
    done = subprocess.run(
        [
            *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
            *("sh", "-c", script, "sh", *places),
        ],
        cwd=top,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_guests_access_lists_are_enforced_as_in_the_guest(vmount: Vmount, image: Path) -> None:
    with mounted(image, options="ro,noload") as theirs:
        expected = {user: readable(theirs, *user) for user in USERS}
    assert "./named may" in expected[NAMED, OTHER]
    assert "./named may not" not in expected[NAMED, OTHER]
    assert "./the group has less than the mask" not in expected[OTHER, GROUP]
    with vmount.mounted("--allow-other", "--owner", "guest", image) as mountpoint:
        top = mountpoint / "volumes/disk0"
        assert {user: readable(top, *user) for user in USERS} == expected
        # Once more, now that the kernel remembers names and lists.
        assert {user: readable(top, *user) for user in USERS} == expected
        assert all((top / name).read_text() == "the content" for name in LISTS)


@pytest.mark.parametrize("owner", ["me", "guest"])
def test_block_files_are_for_who_mounted_alone(vmount: Vmount, image: Path, owner: str) -> None:
    blocks = ("disks/disk0.raw", "volumes/disk0.raw")
    for mode, is_for_all in (([], False), (["--raw-mode", "0444"], True)):
        words: list[str | Path] = ["--allow-other", "--owner", owner, *mode, image]
        with vmount.mounted(*words) as mountpoint:
            for block in blocks:
                status = (mountpoint / block).stat()
                assert status.st_mode & 0o7777 == (0o444 if is_for_all else 0o400)
                assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
                done = subprocess.run(
                    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "head", block],
                    cwd=mountpoint,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
                assert (done.returncode == 0) == is_for_all
                with (mountpoint / block).open("rb") as file:
                    assert file.read(4096)


def test_a_mask_for_all_files_opens_no_block_file(vmount: Vmount, image: Path) -> None:
    with vmount.mounted("--allow-other", "--umask", "022", image) as mountpoint:
        assert (mountpoint / "volumes/disk0/plain").stat().st_mode & 0o7777 == 0o755
        assert (mountpoint / "volumes/disk0.raw").stat().st_mode & 0o7777 == 0o400
    with vmount.mounted("--umask", "077", "--raw-mode", "0444", image) as mountpoint:
        assert (mountpoint / "volumes/disk0.raw").stat().st_mode & 0o7777 == 0o400


@pytest.mark.parametrize("mode", ["0640", "rw", "0o400", "777", "-1", "04444"])
def test_modes_of_block_files_are_rights_to_read(vmount: Vmount, image: Path, mode: str) -> None:
    line = vmount.error(f"--raw-mode={mode}", image, vmount.new_mountpoint(), code=2)
    assert "invalid mode" in line
