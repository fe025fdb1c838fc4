"""The test images of e2fsprogs: some two hundred, most of them damaged in a way of their own.

Each is refused with a reason, or what is read from it is what the kernel shows of a copy that it has mounted
(and whose journal it has replayed); where the kernel refuses the whole volume, what debugfs copies out.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from parsers.errors import ParseError
from parsers.ext.filesystem import open_ext
from tests.downloads import debian_source
from tests.parsers.ext.support import FileSource, run
from tests.parsers.ext.trees import Tree, differences, kernel_mount, mounted_tree, our_tree

LIMIT = 60

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


def debugfs_tree(image: Path, folder: Path) -> Tree | None:
    """Return what debugfs copies out; None if it cannot open the image, or does not end."""
    try:
        done = subprocess.run(
            ["debugfs", "-R", f'rdump "/" {folder}', image],
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return None if b"Filesystem not open" in done.stderr else mounted_tree(folder)


def test_every_image_is_refused_or_read_right(images: dict[str, Path], tmp_path: Path) -> None:
    found: dict[str, list[str]] = {}
    counts = {"equal to the kernel's": 0, "to debugfs's": 0, "refused": 0, "by all": 0}
    for name, image in sorted(images.items()):
        source = FileSource(image)
        try:
            volume = run(open_ext(source))
        except ParseError:
            counts["refused"] += 1
            continue
        ours = our_tree(volume, source)
        copy, folder = tmp_path / f"{name}.img", tmp_path / name
        folder.mkdir()
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        with kernel_mount(copy, folder) as refused:
            theirs = None if refused else mounted_tree(folder)
        copy.unlink()
        if theirs is not None:
            counts["equal to the kernel's"] += 1
            found[name] = [f"{path!r}: {what}" for path, what in differences(ours, theirs)]
    print(counts)
    for name, lines in found.items():
        for line in lines: print(name, line[:200])
