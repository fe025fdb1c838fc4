"""A disk set as programs use it: compared with os, pathlib and glob on the same tree; its threads and its end."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import gc
import glob
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

import vmount
from fixtures import guests
from fixtures.partitions import blank
from fixtures.programs import run
from vmount import DiskSet, OpenOptions, SourceError, VmountError, open_disks
from vmount.errors import Exit, MountError, Remedy, UsageError
from vmount.mounting.control import answer_of, error_of
from vmount.state import StateDir

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = 8


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disk_set")


@pytest.fixture(scope="module")
def tree(top: Path) -> Path:
    """A tree with many files, and links of all kinds."""
    tree = top / "tree"
    for number in range(12):
        folder = tree / f"d{number % 4}" / f"deep{number}"
        folder.mkdir(parents=True)
        for index in range(8):
            size = 17 * number * (index + 1) ** 3 + index
            (folder / f"f{index}.bin").write_bytes(os.urandom(size))
        (folder / ".hidden.txt").write_text(f"hidden {number}")
    (tree / "to folder").symlink_to("d1")
    (tree / "to file").symlink_to("d1/deep1/f3.bin")
    (tree / "to nothing").symlink_to("nowhere")
    (tree / os.fsdecode(b"latin \xe9")).write_text("bytes")
    os.link(tree / "d0/deep0/f1.bin", tree / "again")
    return tree


@pytest.fixture(scope="module")
def image(top: Path, tree: Path) -> Path:
    path = top / "tree.img"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(blank(path, 32 << 20)))
    return path


@pytest.fixture
def disks(image: Path, tmp_path: Path) -> Iterator[DiskSet]:
    with open_disks(image, state_dir=tmp_path) as disks:
        yield disks


@pytest.fixture(scope="module")
def windows(top: Path) -> list[Path]:
    return guests.build_windows(top / "windows")


@pytest.fixture(scope="module")
def linux(top: Path) -> Path:
    return guests.build_linux(top / "linux")


def hashes(disks: DiskSet) -> dict[str, str]:
    """Walk in every way that there is, and return what each file holds."""
    found = {}
    for folder, _, files in disks.walk("disk0"):
        with disks.scandir(folder) as entries:
            kinds = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
        for name in files:
            if kinds[name]:
                path = f"{folder}/{name}"
                with disks.open(path) as file:
                    content = file.read()
                assert disks.stat(path).st_size == len(content)
                found[path] = hashlib.sha256(content).hexdigest()
    return found


# As os, pathlib and glob have it


@pytest.mark.parametrize("topdown", [True, False])
@pytest.mark.parametrize("followlinks", [True, False])
def test_walk_gives_what_os_walk_gives(
    disks: DiskSet, tree: Path, topdown: bool, followlinks: bool
) -> None:
    def shape(walked: object, top: str) -> list[tuple[str, list[str], list[str]]]:
        return [
            (folder.removeprefix(top), sorted(set(folders) - {"lost+found"}), sorted(files))
            for folder, folders, files in walked  # type: ignore[attr-defined]
            if not folder.endswith("lost+found")
        ]

    onerror: list[OSError] = []
    ours = shape(disks.walk("disk0", topdown, onerror.append, followlinks), "disk0")
    theirs = shape(os.walk(tree, topdown, followlinks=followlinks), str(tree))
    if followlinks:
        # d1 and the link to it are one directory, which is walked once.
        (error,) = onerror
        assert error.errno == errno.ELOOP
        assert error.filename in {"disk0/d1", "disk0/to folder"}
        skipped = error.filename.removeprefix("disk0")
        theirs = [item for item in theirs if not f"{item[0]}/".startswith(f"{skipped}/")]
    else:
        assert onerror == []
    assert sorted(ours) == sorted(theirs)
    parents = [item[0] for item in ours]
    for position, folder in enumerate(parents):
        above = folder.rpartition("/")[0]
        if folder and above in parents:
            assert (parents.index(above) < position) is topdown


def test_a_caller_prunes_a_walk(disks: DiskSet) -> None:
    seen = []
    for folder, folders, _ in disks.walk("disk0"):
        folders[:] = [name for name in folders if name == "d1"]
        seen.append(folder)
    assert seen == ["disk0", "disk0/d1"]


def test_scandir_gives_what_os_scandir_gives(disks: DiskSet, tree: Path) -> None:
    with disks.scandir("disk0") as ours, os.scandir(tree) as theirs:
        found = {entry.name: entry for entry in ours if entry.name != "lost+found"}
        expected = {entry.name: entry for entry in theirs}
        assert set(found) == set(expected)
        for name, entry in expected.items():
            mine = found[name]
            assert mine.is_symlink() == entry.is_symlink()
            for follow in (True, False):
                assert mine.is_dir(follow_symlinks=follow) == entry.is_dir(follow_symlinks=follow)
                assert mine.is_file(follow_symlinks=follow) == entry.is_file(follow_symlinks=follow)
            if name != "to nothing":
                status, wanted = mine.stat(), entry.stat()
                if not entry.is_dir():
                    assert status.st_size == wanted.st_size
                assert status.st_mtime_ns // 10**9 == wanted.st_mtime_ns // 10**9
                assert stat.S_IFMT(status.st_mode) == stat.S_IFMT(wanted.st_mode)
            assert os.fspath(mine) == f"disk0/{name}" == mine.path
            assert mine.inode() == disks.number(mine.path)
        with pytest.raises(FileNotFoundError):
            found["to nothing"].stat()
    assert list(ours) == []


def test_stat_has_the_names_of_os(disks: DiskSet, tree: Path) -> None:
    ours, theirs = disks.stat("disk0/d1/deep1/f3.bin"), (tree / "d1/deep1/f3.bin").stat()
    for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.st_mtime == ours.st_mtime_ns / 10**9 == ours.mtime / 10**9
    assert ours.st_ino == ours.number == disks.number("disk0/d1/deep1/f3.bin")
    assert ours.st_blocks * 512 >= ours.st_size
    assert disks.stat("disk0/again").st_ino == disks.stat("disk0/d0/deep0/f1.bin").st_ino
    assert disks.lstat("disk0/to file").st_size == len("d1/deep1/f3.bin")


@pytest.mark.parametrize(
    "pattern",
    ["d*/deep1/*.bin", "d1/**/f[1-3].bin", "**/.hid*", "d?", "nothing*", "**/f7.bin", "again"],
)
def test_glob_finds_what_glob_finds(disks: DiskSet, tree: Path, pattern: str) -> None:
    found = glob.glob(pattern, root_dir=tree, recursive=True, include_hidden=True)
    assert disks.glob(f"disk0/{pattern}") == sorted(
        path
        for path in (f"volumes/disk0/{name}" for name in found)
        if not fnmatch.fnmatch(path, "*/to folder/*")
    )


@pytest.mark.parametrize("kind", [str, os.fsencode, PurePosixPath])
def test_paths_are_text_bytes_or_paths(disks: DiskSet, kind: type) -> None:
    assert disks.exists(kind("disk0/again"))
    assert disks.is_dir(kind("disk0/to folder"))
    assert not disks.is_dir(kind("disk0/to folder"), follow=False)
    assert disks.is_file(kind("disk0/to file"))
    assert disks.is_symlink(kind("disk0/to nothing"))
    assert not disks.exists(kind("disk0/to nothing"))
    assert disks.exists(kind("disk0/to nothing"), follow=False)
    assert not disks.exists(kind("disk0/again/below a file"))
    assert disks.read_bytes(kind(os.fsdecode(b"disk0/latin \xe9"))) == b"bytes"


def test_files_tell_their_name_and_mode(disks: DiskSet) -> None:
    with disks.open("disk0/again") as file:
        assert (file.name, file.mode) == ("disk0/again", "rb")
        assert isinstance(file, io.BufferedReader)


def test_paths_of_a_windows_guest(windows: list[Path], tmp_path: Path) -> None:
    with open_disks(*windows, state_dir=tmp_path) as disks:
        assert disks.read_text(r"c:\users\ANN\Notes.txt") == "notes"
        assert disks.is_dir("C:/Users")
        assert not disks.exists(r"C:\Users\bob")
        assert disks.glob(r"c:\users\**\*.TXT") == ["drives/C/Users/ann/notes.txt"]
        assert [folder for folder, _, _ in disks.walk(r"C:\Users")] == [
            "drives/C/Users",
            "drives/C/Users/ann",
        ]
        with pytest.raises(FileNotFoundError, match="did you mean"):
            disks.open(r"C:\Users\ann\note.txt")


def test_what_a_method_returns_names_the_same_file_again(linux: Path, tmp_path: Path) -> None:
    with open_disks(linux, state_dir=tmp_path) as disks:
        for top in ("/", "root", "/home"):
            for folder, folders, files in disks.walk(top):
                if "lost+found" in folder:
                    continue
                listed = {entry.name: entry.inode() for entry in disks.scandir(folder)}
                for name in (*folders, *files):
                    assert disks.number(f"{folder.rstrip('/')}/{name}") == listed[name]


# Several threads


def test_eight_threads_read_what_one_reads(image: Path, tmp_path: Path) -> None:
    with open_disks(image, state_dir=tmp_path) as disks:
        expected = hashes(disks)
    assert len(expected) > 100
    with open_disks(image, state_dir=tmp_path) as disks:
        start = threading.Barrier(THREADS)

        def work(_: int) -> dict[str, str]:
            start.wait()
            return hashes(disks)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(THREADS) as threads:
                for found in threads.map(work, range(THREADS)):
                    assert found == expected
        finally:
            sys.setswitchinterval(before)


def test_threads_share_one_file(disks: DiskSet, tree: Path) -> None:
    largest = max((tree / "d3").rglob("*.bin"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    with (
        disks.open(f"disk0/{largest.relative_to(tree)}") as file,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        pieces = list(threads.map(lambda _: file.read(97), range(len(whole) // 97 + 1)))
    assert sum(map(len, pieces)) == len(whole)
    assert sorted(pieces) == sorted(whole[at : at + 97] for at in range(0, len(whole), 97))


def test_a_set_that_another_thread_closes_gives_no_wrong_byte(image: Path, tmp_path: Path) -> None:
    disks = open_disks(image, state_dir=tmp_path)
    expected = hashes(disks)
    reading = threading.Event()

    def work() -> bool:
        with contextlib.suppress(ValueError):
            while True:
                assert hashes(disks) == expected
                reading.set()
        return True

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(work)
        reading.wait()
        disks.close()
        assert done.result()
    with pytest.raises(ValueError, match="closed"):
        disks.exists("disk0")


# Its end


def open_descriptors(image: Path) -> int:
    return sum(
        os.path.realpath(f"/proc/self/fd/{name}") == str(image)
        for name in os.listdir("/proc/self/fd")
    )


def test_a_dropped_set_is_released_with_a_warning(image: Path, tmp_path: Path) -> None:
    disks = open_disks(image, state_dir=tmp_path)
    assert open_descriptors(image) > 0
    with pytest.warns(ResourceWarning, match=r"unclosed disk set of '.*tree\.img'"):
        del disks
    assert open_descriptors(image) == 0


def test_a_file_and_a_handle_keep_their_set(image: Path, tmp_path: Path) -> None:
    file = open_disks(image, state_dir=tmp_path).open("disk0/again")
    gc.collect()
    assert file.read(1)
    with pytest.warns(ResourceWarning):
        del file
    (handle,) = open_disks(image, state_dir=tmp_path).volume_handles()
    gc.collect()
    assert open_descriptors(image) > 0
    with pytest.warns(ResourceWarning):
        del handle
    assert open_descriptors(image) == 0


@pytest.mark.mount
def test_a_dropped_set_ends_its_mount(image: Path, tmp_path: Path) -> None:
    disks = open_disks(image, state_dir=tmp_path)
    path = disks.volume_handles()[0].mount()
    assert (path / "again").exists()
    with pytest.warns(ResourceWarning):
        del disks
    assert not path.exists()
    assert list(StateDir(tmp_path).journals()) == []


@pytest.mark.mount
def test_a_closed_set_mounts_nothing(image: Path, tmp_path: Path) -> None:
    disks = open_disks(image, state_dir=tmp_path)
    (handle,) = disks.volume_handles()
    disks.close()
    disks.close()
    with pytest.raises(MountError, match="closed"):
        handle.mount()


def test_one_line_says_what_is_open(image: Path, tmp_path: Path) -> None:
    with open_disks(image, state_dir=tmp_path) as disks:
        text = repr(disks)
        assert text == f"<DiskSet of {str(image)!r}: 1 disk, 1 volume, {32 << 20} bytes>"
        assert repr(disks.volume_handles()[0]) == f"<VolumeHandle 'disk0': ext4, {32 << 20} bytes>"
    assert repr(disks) == f"<DiskSet of {str(image)!r}, closed>"


# Errors


def test_a_missing_source_is_a_missing_file(tmp_path: Path) -> None:
    for name in ("missing.vmdk", "missing.img"):
        with pytest.raises(FileNotFoundError, match="No such file") as caught:
            open_disks(tmp_path / name, state_dir=tmp_path / "state")
        assert isinstance(caught.value, SourceError)
        assert caught.value.exit_code == Exit.SOURCE
        assert caught.value.filename == str(tmp_path / name)


def test_a_remedy_is_worded_for_who_reads_it() -> None:
    error = UsageError("x: does not fit", remedy=Remedy("use --force", "use force=True"))
    assert str(error) == "x: does not fit; use force=True"
    assert error.as_command() == "x: does not fit; use --force"
    again = error_of(answer_of(error))
    assert (type(again), str(again), again.as_command()) == (
        UsageError,
        str(error),
        error.as_command(),
    )
    assert str(VmountError("x", remedy="y")) == VmountError("x", remedy="y").as_command() == "x; y"


# The package


def test_names_are_loaded_when_they_are_asked_for() -> None:
    script = (
        "import sys, vmount, vmount.parsers.errors\n"
        "assert 'trio' not in sys.modules and 'vmount.api' not in sys.modules\n"
        "from vmount import open_disks, OpenOptions\n"
        "import vmount.api, vmount.options\n"
        "assert open_disks is vmount.api.open_disks and OpenOptions is vmount.options.OpenOptions\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert {*vmount.__all__} <= {*dir(vmount)}
    with pytest.raises(AttributeError):
        _ = vmount.nothing  # type: ignore[attr-defined]
    assert OpenOptions().force is False


def test_a_typed_program_passes_mypy_strict(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import PurePath\n"
        "from vmount import DiskSet, FileStat, OpenOptions, SourceError, open_disks\n"
        "def sizes(disks: DiskSet) -> dict[str, int]:\n"
        "    with disks.scandir(PurePath('x')) as entries:\n"
        "        return {entry.name: entry.stat().st_size for entry in entries}\n"
        "def main() -> FileStat | None:\n"
        "    try:\n"
        "        with open_disks('a.vmdk', options=OpenOptions(force=True)) as disks:\n"
        "            for folder, folders, files in disks.walk(b'x'):\n"
        "                reveal_type(files)\n"
        "            reveal_type(disks.read_bytes('x'))\n"
        "            return disks.stat('x')\n"
        "    except SourceError:\n"
        "        return None\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            str(tmp_path / "c"),
            str(program),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert '"list[str]"' in done.stdout.replace("builtins.", "")
    assert '"bytes"' in done.stdout.replace("builtins.", "")


# Ctrl-C

MOUNTING = """\
import sys
from vmount import open_disks
with open_disks(sys.argv[1], state_dir=sys.argv[2]) as disks:
    try:
        print("open", flush=True)
        while True:
            disks.volume_handles()[0].mount()
            print("mounted", flush=True)
            disks.dismount_all()
            disks._mounting._server.close()
            disks._mounting._server = None
            disks._mounting._remove_folder()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.mount
@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize("pause", [0.0, 0.1, 0.3, 0.6])
def test_ctrl_c_while_mounting_ends_and_leaves_nothing(
    image: Path, tmp_path: Path, whole_group: bool, pause: float
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", MOUNTING, str(image), str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(pause)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "interrupted", err
    # CPython notes an interrupt in an exec(), as dataclasses use it, and kills itself with it at the end.
    assert process.returncode in {0, -signal.SIGINT}, err
    assert not [path for path in tmp_path.glob("vmount-*") if path.is_dir()]
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list(StateDir(tmp_path / "state").journals()) == []
