"""`vmount cp` into a target that others may write to: nothing is written, or changed, outside it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.programs import run
from vmount.jobs.copying import Copier, CopyOptions, Owner
from vmount.jobs.copying.content import part_of
from vmount.jobs.copying.target import TargetTree, open_beneath, open_by_names
from vmount.jobs.local_folder import FolderSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.mounts.conftest import Vmount

FOLDERS = 120
ROUNDS = 6
DEEP = 40
LONG_NAME = "a directory whose name is long ".ljust(200, "x")

RACER = """
import ctypes, os, sys
target, link = sys.argv[1:]
libc = ctypes.CDLL(None)
EXCHANGE, AT_FDCWD = 2, -100
print("ready", flush=True)
for turn in range(10_000_000):
    for number in range({folders}):
        name = os.fsencode(f"{{target}}/folder-{{number}}")
        if not libc.renameat2(AT_FDCWD, name, AT_FDCWD, os.fsencode(link), EXCHANGE):
            libc.renameat2(AT_FDCWD, name, AT_FDCWD, os.fsencode(link), EXCHANGE)
    if os.getppid() == 1:
        break
"""


def image_of(tree: Path, image: Path, size: str = "32M") -> Path:
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(image), size)
    return image


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("safely")
    tree = place / "tree"
    for number in range(FOLDERS):
        folder = tree / f"many/folder-{number}"
        folder.mkdir(parents=True)
        for name in ("a", "b", "c"):
            (folder / name).write_text(f"{name} of {number}")
        folder.chmod(0o777)
    (tree / "directory").mkdir()
    (tree / "directory/file").write_text("inside")
    (tree / "file").write_text("a file")
    (tree / "dangling").symlink_to("/nowhere/at all")
    (tree / "chain").symlink_to("dangling")
    (tree / "loop").symlink_to("loop")
    os.mknod(tree / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(tree / "device", 1000, 1000)
    os.mknod(tree / "roots", stat.S_IFBLK | 0o666, os.makedev(250, 3))
    run("setfacl", "-m", "u:1000:rw", str(tree / "device"))
    return image_of(tree, place / "d.img")


@pytest.mark.parametrize("into", ["the folder", "the link by name"])
def test_a_link_in_the_place_of_a_directory_is_refused(
    vmount: Vmount, image: Path, tmp_path: Path, into: str
) -> None:
    host, target = tmp_path / "host", tmp_path / "target"
    host.mkdir()
    target.mkdir()
    (target / "directory").symlink_to(host)
    words: list[str | Path] = [target] if into == "the folder" else ["-T", target / "directory"]
    *start, last = words
    done = vmount.run("cp", *start, image, "disk0/directory", last, check=False)
    assert done.returncode == 3
    assert b"target/directory: a symbolic link of that name exists" in done.stderr
    assert not list(host.iterdir())
    assert (target / "directory").is_symlink()


def test_a_link_that_ends_with_a_slash_is_the_directory_that_it_leads_to(
    vmount: Vmount, image: Path, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (tmp_path / "link").symlink_to(host)
    vmount.run("cp", "-T", image, "disk0/directory", f"{tmp_path}/link/")
    assert (host / "file").read_text() == "inside"


def test_a_link_deeper_in_the_target_is_not_followed_and_a_file_replaces_one(
    vmount: Vmount, image: Path, tmp_path: Path
) -> None:
    prey = tmp_path / "prey"
    (prey / "sub").mkdir(parents=True)
    (prey / "kept").write_text("kept")
    (tmp_path / "copy/many").mkdir(parents=True)
    (tmp_path / "copy/many/folder-1").symlink_to(prey / "sub")
    (tmp_path / "copy/file").symlink_to(prey / "kept")
    done = vmount.run("cp", "-T", image, "disk0", tmp_path / "copy", check=False)
    assert done.returncode == 3
    assert b"copy/many/folder-1: a symbolic link of that name exists" in done.stderr
    assert not list((prey / "sub").iterdir())
    assert (prey / "kept").read_text() == "kept"
    assert (tmp_path / "copy/file").read_text() == "a file"
    assert not (tmp_path / "copy/file").is_symlink()


def test_a_directory_exchanged_for_a_link_leads_nothing_out(
    vmount: Vmount, image: Path, tmp_path: Path
) -> None:
    """A process exchanges directories for a link and back as fast as it can while files are copied."""
    host, target = tmp_path / "host", tmp_path / "target"
    (host / "inner").mkdir(parents=True)
    host.chmod(0o750)
    target.mkdir()
    (tmp_path / "link").symlink_to(host)
    racer = subprocess.Popen(
        [sys.executable, "-c", RACER.format(folders=FOLDERS), target / "many", tmp_path / "link"],
        stdout=subprocess.PIPE,
    )
    try:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
        for _ in range(ROUNDS):
            vmount.run("cp", "--owner", "guest", image, "disk0/many", target, check=False)
    finally:
        racer.kill()
        racer.wait()
    assert [path.name for path in host.iterdir()] == ["inner"]
    assert host.stat().st_mode & 0o7777 == 0o750


def test_a_tree_deeper_than_any_path_is_copied(vmount: Vmount, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    descend(tmp_path / "tree", DEEP, make=True)
    image = image_of(tmp_path / "tree", tmp_path / "deep.img")
    vmount.run("cp", image, "disk0", tmp_path / "copy")
    assert descend(tmp_path / "copy", DEEP, make=False) == (b"the bottom", 10**18)
    vmount.run("cp", "--resume", "-T", image, "disk0", tmp_path / "copy")
    assert descend(tmp_path / "copy", DEEP, make=False) == (b"the bottom", 10**18)


def descend(top: Path, depth: int, *, make: bool) -> tuple[bytes, int]:
    """Make or read what is at the bottom of a deep tree, one directory at a time."""
    here = os.open(top, os.O_DIRECTORY)
    for _ in range(depth):
        if make:
            os.mkdir(LONG_NAME, dir_fd=here)
        below = os.open(LONG_NAME, os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    flags = os.O_CREAT | os.O_RDWR if make else os.O_RDONLY
    file = os.open("bottom", flags, dir_fd=here)
    if make:
        os.write(file, b"the bottom")
        os.utime(here, ns=(10**18, 10**18))
    content, time = os.pread(file, 100, 0), os.fstat(here).st_mtime_ns
    os.close(file)
    os.close(here)
    return content, time


def test_device_nodes_are_given_to_nobody(vmount: Vmount, image: Path, tmp_path: Path) -> None:
    done = vmount.run("cp", "--json", "--owner", "guest", image, "disk0", tmp_path / "copy")
    for name in ("device", "roots"):
        status = (tmp_path / "copy" / name).stat()
        assert status.st_uid == os.geteuid()
        assert status.st_mode & 0o077 == 0
        assert os.listxattr(tmp_path / "copy" / name) == []
    kept = {(item["what"], item["example"]) for item in json.loads(done.stdout)["not_kept"]}
    device = str(tmp_path / "copy/device")
    assert kept == {("owner", device), ("system.posix_acl_access", device)}


@pytest.mark.parametrize("name", ["dangling", "chain", "loop"])
def test_a_link_that_leads_to_nothing_is_copied_as_a_link(
    vmount: Vmount, image: Path, tmp_path: Path, name: str
) -> None:
    done = vmount.run("cp", image, f"disk0/{name}", tmp_path)
    assert b"1 file, " in done.stdout
    expected = {"dangling": "/nowhere/at all", "chain": "dangling", "loop": "loop"}[name]
    assert os.readlink(tmp_path / name) == expected


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("planted", ["hard link", "link", "pipe"])
def test_a_part_file_that_somebody_planted_is_not_written_to(
    tmp_path: Path, planted: str, resume: bool
) -> None:
    source, target, prey = tmp_path / "source", tmp_path / "target", tmp_path / "prey"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("the content of the disk")
    prey.write_text("prey")
    files = FolderSet(source)
    part = target / part_of("file", files.stat("file"))
    if planted == "hard link":
        part.hardlink_to(prey)
    elif planted == "link":
        part.symlink_to(prey)
    else:
        os.mkfifo(part)
    copier = Copier(files, lambda _report, _path: None, CopyOptions(resume=resume))
    copier.copy("file", target / "file")
    assert copier.report.problems == []
    assert (target / "file").read_text() == "the content of the disk"
    assert not (target / "file").is_symlink()
    assert prey.read_text() == "prey"
    assert [path.name for path in target.iterdir()] == ["file"]


def test_a_directory_that_took_the_place_of_another_is_not_given_away(tmp_path: Path) -> None:
    """While files are copied, somebody puts a secret directory where one was just made."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "top/public").mkdir(parents=True)
    (source / "top/public/file").write_text("x")
    (source / "top/public").chmod(0o777)
    (target / "secret").mkdir(parents=True, mode=0o700)

    def exchange(_report: object, _path: str) -> None:
        if (target / "secret").exists():
            (target / "top/public").rename(target / "away")
            (target / "secret").rename(target / "top/public")

    options = CopyOptions(owner=Owner(guest=True))
    copier = Copier(FolderSet(source), exchange, options)
    copier.copy("top", target / "top")
    assert (target / "top/public").stat().st_mode & 0o7777 == 0o700
    assert ("owner, mode and attributes", "another file has replaced it") in (
        copier.report.not_kept
    )


@pytest.mark.parametrize("opened", [open_beneath, open_by_names])
def test_directories_are_opened_below_another_and_no_link_is_followed(
    tmp_path: Path, opened: Callable[[int, str], int]
) -> None:
    """With openat2, and as on kernels that have none."""
    (tmp_path / "top/one/two").mkdir(parents=True)
    (tmp_path / "top/file").write_text("")
    (tmp_path / "top/link").symlink_to("one")
    (tmp_path / "top/one/out").symlink_to("..")
    top = os.open(tmp_path / "top", os.O_PATH)
    try:
        found = opened(top, "one/two")
        assert os.fstat(found).st_ino == (tmp_path / "top/one/two").stat().st_ino
        os.close(found)
        before = len(os.listdir("/proc/self/fd"))
        for path, number in {
            "link": errno.ELOOP,
            "link/two": errno.ELOOP,
            "one/out/one": errno.ELOOP,
            "file": errno.ENOTDIR,
            "one/none": errno.ENOENT,
        }.items():
            with pytest.raises(OSError) as caught:
                opened(top, path)
            assert caught.value.errno == number, path
        with pytest.raises(OSError):
            opened(top, "one/../../top")
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(top)


def test_openat2_is_what_is_used_here() -> None:
    """If this fails the kernel or its filter has no openat2, and only the other way is tested."""
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, 0)
    descriptor = ctypes.CDLL(None).syscall(437, -100, b".", how, ctypes.c_size_t(24))
    assert descriptor >= 0
    os.close(descriptor)


def test_a_tree_keeps_few_descriptors_open(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}/below").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    tree = TargetTree(tmp_path)
    for number in range(300):
        tree.descriptor(f"{number}")
        tree.descriptor(f"{number}/below")
    assert len(os.listdir("/proc/self/fd")) - before <= 66
    tree.close()
    assert len(os.listdir("/proc/self/fd")) == before
