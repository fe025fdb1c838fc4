"""The test images of e2fsprogs: some two hundred, most of them damaged in a way of their own.

Each is refused with a reason, or what is read from it is what the kernel shows of a copy that it has mounted
(and whose journal it has replayed); where the kernel refuses the whole volume, what debugfs copies out.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.downloads import debian_source
from tests.support.parsers.ext.support import FileSource, run
from tests.support.parsers.ext.trees import Tree, differences, kernel_mount, mounted_tree, our_tree
from vmount.parsers.errors import ParseError
from vmount.parsers.ext.filesystem import open_ext

LIMIT = 60
"""Seconds for debugfs."""
KNOWN = {
    name: (re.compile(paths), reason)
    for name, paths, reason in (
        (
            "f_bad_encryption",
            rb"/edir/.*",
            "the kernel refuses encrypted files whose policy is not that of their folder; their names are shown",
        ),
        (
            "f_dupfsblks",
            rb"/(foo|bar|quux)",
            "files over the blocks of the file system itself, which the kernel knows from all descriptors; "
            "what their maps say is shown",
        ),
        ("f_h_badnode", rb"/test2/qf\d+", "the kernel loses names whose hash tree is damaged"),
        ("f_h_badroot", rb"/test\d/(qf)?\d+", "as f_h_badnode"),
        ("f_h_reindex", rb"/test2?/\d+", "as f_h_badnode"),
        (
            "f_orphan_extents_inode",
            rb"/a",
            "the kernel ends a truncation and gives the file the time of the mount",
        ),
        ("f_orphan_indirect_inode", rb"/a", "as f_orphan_extents_inode"),
        (
            "j_recover_fast_commit",
            rb"/a",
            "the kernel makes names anew when it replays fast commits, and gives the folder the time of that",
        ),
        ("f_verity", rb"/file", "a kernel without fs-verity does not open its files"),
    )
}
"""By image: the paths that are not as the kernel shows them, and why."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("e2fsprogs")
    found = {}
    with tarfile.open(debian_source("e2fsprogs")) as tar:
        for member in tar:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[1] == "tests" and parts[3] == "image.gz":
                stream = tar.extractfile(member)
                assert stream is not None
                found[parts[2]] = folder / f"{parts[2]}.img"
                with gzip.open(stream) as packed, found[parts[2]].open("wb") as file:
                    while piece := packed.read(1 << 20):
                        if piece.count(0) == len(piece):
                            file.seek(len(piece), os.SEEK_CUR)
                        else:
                            file.write(piece)
                    file.truncate(file.tell())
    assert len(found) > 200
    return found


def debugfs_tree(image: Path, folder: Path, *, replay: bool) -> Tree:
    """Return what debugfs copies out; with `replay` after e2fsck has replayed the journal, into `image`."""
    if replay:
        command = ["e2fsck", "-y", "-E", "journal_only", str(image)]
        subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
    command = ["debugfs", "-R", f'rdump "/" {folder}', str(image)]
    subprocess.run(command, capture_output=True, timeout=LIMIT, check=True)
    return mounted_tree(folder)


def content_differences(ours: Tree, theirs: Tree) -> Iterator[tuple[bytes, str]]:
    """Yield (path, what) for files and links whose contents differ, or that only debugfs has."""
    for path, other in theirs.files.items():
        if path not in ours.files:
            if ours.missing(path):
                yield path, "not shown, and nothing is said of it"
        elif ours.files[path].body != other.body:
            yield path, f"ours {ours.files[path].body}, theirs {other.body}"


def test_verity_files_are_what_debugfs_reads(images: dict[str, Path], tmp_path: Path) -> None:
    source = FileSource(images["f_verity"])
    ours = our_tree(run(open_ext(source)), source)
    theirs = debugfs_tree(images["f_verity"], tmp_path, replay=False)
    assert list(content_differences(ours, theirs)) == []
    assert ours.files[b"/file"].size == 163840


def test_every_image_is_refused_or_read_right(images: dict[str, Path], tmp_path: Path) -> None:
    unexpected: dict[str, list[str]] = {}
    explained = set()
    refused, by_kernel, by_debugfs = [], [], []
    for name, image in sorted(images.items()):
        source = FileSource(image)
        try:
            volume = run(open_ext(source))
        except ParseError:
            refused.append(name)
            continue
        ours = our_tree(volume, source)
        copy, folder = tmp_path / f"{name}.img", tmp_path / name
        folder.mkdir()
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        with kernel_mount(copy, folder) as reason:
            theirs = None if reason else mounted_tree(folder)
        if theirs is not None:
            by_kernel.append(name)
            found = list(differences(ours, theirs))
        else:
            by_debugfs.append(name)
            # Where we could not replay the journal, its volume is read as it is.
            whole = not any("not been replayed" in warning for warning in volume.info.warnings)
            subprocess.run(["cp", "--sparse=always", image, copy], check=True)
            found = list(content_differences(ours, debugfs_tree(copy, folder, replay=whole)))
        copy.unlink()
        for path, what in found:
            known, _ = KNOWN.get(name, (None, ""))
            if known is not None and known.fullmatch(path):
                explained.add(name)
            else:
                unexpected.setdefault(name, []).append(f"{path!r}: {what}")
    assert unexpected == {}
    assert explained == KNOWN.keys()
    assert len(by_kernel) > 160
    assert len(refused) + len(by_debugfs) < 40
