"""Volumes copied at random moments while they were written to, against the kernel's own replay on the copy."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.ext import debugfs, make, mounted
from fixtures.ext_crash import crash_images
from fixtures.ext_states import JOURNAL_MAGIC
from tests.support.parsers.ext.support import FileSource, run
from tests.support.parsers.ext.trees import Tree, differences, kernel_mount, mounted_tree, our_tree
from vmount.parsers.ext.filesystem import open_ext

KINDS = {
    "default": ("-t ext4 -b 4096", ""),
    "small-journal": ("-t ext4 -b 1024 -J size=1", ""),
    "32bit": ("-t ext4 -b 2048 -O ^64bit,^metadata_csum", ""),
    "data": ("-t ext4 -b 1024", "data=journal"),
    "checksum-v1": ("-t ext4 -b 1024 -O ^metadata_csum", "journal_checksum"),
    "async-commit": (
        "-t ext4 -b 1024 -O ^metadata_csum",
        "data=writeback,journal_async_commit",
    ),
    "inline": ("-t ext4 -b 4096 -I 512 -O inline_data,orphan_file", ""),
    "bigalloc": ("-t ext4 -b 1024 -O bigalloc -C 16384", ""),
    "ext3": ("-t ext3 -b 1024", ""),
}
COPIES = {"default": 12}
OTHER_COPIES = 4


@pytest.fixture(scope="module", params=list(KINDS))
def copies(request: pytest.FixtureRequest) -> Iterator[list[Path]]:
    options, mount_options = KINDS[request.param]
    count = COPIES.get(request.param, OTHER_COPIES)
    seed = list(KINDS).index(request.param)
    with crash_images(options, mount_options, count=count, seed=seed) as images:
        yield images


def opened(image: Path) -> tuple[Tree, tuple[str, ...]]:
    """Return what our parser shows of a volume, and its warnings."""
    source = FileSource(image)
    volume = run(open_ext(source))
    return our_tree(volume, source), volume.info.warnings


def replayed(image: Path, folder: Path) -> Tree:
    """Return what the kernel shows after it has replayed the journal into the image."""
    with kernel_mount(image, folder) as refused:
        assert not refused
        return mounted_tree(folder)


def compare(image: Path, folder: Path, *, blocks: bool = True) -> None:
    # The kernel's clock for files goes by ticks.
    moment = time.time_ns() - 20_000_000
    ours, warnings = opened(image)
    theirs = replayed(image, folder)
    for path in theirs.files:
        other = theirs.files[path]
        if not blocks and path in ours.files:
            # Ours are those of what fast commits say, which leaves out what was only reserved.
            assert (other.allocated > 0) <= (ours.files[path].allocated > 0) or not other.size
            other = theirs.files[path] = other._replace(allocated=ours.files[path].allocated)
        if other.ctime >= moment and path in ours.files:
            # The kernel has ended a truncation, or done over what a fast commit says, and given the file the time
            # of that. What it then gives a directory (a link and no block to a new one) is not what it had.
            mine = ours.files[path]
            other = other._replace(mtime=mine.mtime, ctime=mine.ctime, allocated=mine.allocated)
            if stat.S_ISDIR(other.mode):
                other = other._replace(size=mine.size, nlink=mine.nlink)
            theirs.files[path] = other
    assert list(differences(ours, theirs)) == []
    assert ours.problems == {}
    assert warnings == ()


@pytest.mark.requirement("R22")
def test_crash_images_are_what_the_kernel_makes_of_them(copies: list[Path], tmp_path: Path) -> None:
    changed = 0
    for image in copies:
        with mounted(image, options="ro,noload") as root:
            before = mounted_tree(root)
        compare(image, tmp_path)
        changed += before != opened(image)[0]
    # Without the journal they would be something else.
    assert changed > len(copies) // 2


@pytest.mark.requirement("R22")
def test_fast_commits_are_what_the_kernel_makes_of_them(tmp_path: Path) -> None:
    """The kernel refuses volumes whose first fast commit was being written: of those we say so."""
    compared = 0
    with crash_images("-t ext4 -b 4096 -O fast_commit", "", count=15, seed=20) as images:
        for image in images:
            copy = tmp_path / "copy.img"
            shutil.copyfile(image, copy)
            with kernel_mount(image, tmp_path) as refused:
                pass
            if not refused:
                compared += "tag TAIL" in debugfs(copy, "logdump -a")
                compare(copy, tmp_path, blocks=False)
            else:
                opened(copy)
    assert compared


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("options", ["-t ext4 -b 1024", "-t ext4 -b 1024 -O ^64bit"])
def test_journals_written_by_debugfs(tmp_path: Path, version: str, options: str) -> None:
    """Their checksums are of the second form, which today's kernel reads and does not write."""
    image, new = tmp_path / "image", tmp_path / "new"
    make(image, 8 << 20, options.split())
    with mounted(image) as root:
        for name in ("first", "second", "third"):
            (root / name).write_bytes(name.encode() * 600)
    blocks = {
        name: debugfs(image, f"blocks {name}").splitlines()[-1].split()
        for name in ("first", "second", "third")
    }
    new.write_bytes(JOURNAL_MAGIC + b"new" * 5000)
    for write in (
        f"jw -b {','.join(blocks['first'] + blocks['second'])} {new}",
        f"jw -r {','.join(blocks['second'][1:])},{blocks['third'][1]}",
        f"jw -b {blocks['third'][1]},{blocks['third'][2]} {new}",
    ):
        debugfs(image, f"jo -c -v {version}", write, "jc", write=True)
    log = debugfs(image, "logdump")
    assert log.count("(commit block)") == 3
    assert "(revoke table)" in log
    data = image.read_bytes()
    assert data.count(b"new" * 20) > len(blocks["first"])
    (tmp_path / "root").mkdir()
    compare(image, tmp_path / "root")
