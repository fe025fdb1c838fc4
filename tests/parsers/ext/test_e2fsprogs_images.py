"""The test images of e2fsprogs: some two hundred, most of them damaged in a way of their own.

Each is refused with a reason, or what is read from it is what debugfs reads; without a crash or a hang.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.downloads import debian_source
from vmount.api import open_disks
from vmount.errors import SourceError

LIMIT = 60
LARGEST = 4 << 20
"""Bytes: of a larger file the first and the last MiB are compared."""

pytestmark = pytest.mark.slow


@dataclass
class Found:
    """What a reader shows of an image."""

    files: dict[str, str] = field(default_factory=dict)
    """By path: kind and digest, or target."""
    problems: dict[str, str] = field(default_factory=dict)


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


def read_by_us(image: Path) -> Found:
    found = Found()
    with open_disks(image) as disks:
        (volume,) = disks.volumes
        if volume.filesystem is None:
            found.problems[""] = volume.problem or "not recognised"
            return found

        def note(error: OSError) -> None:
            found.problems[relative(str(error.filename or ""))] = str(error.strerror)

        top = f"volumes/{volume.name}"
        files = list(disks.below(top, note))
        for file, reader in zip(files, disks.open_files(files), strict=True):
            path, mode = relative(file.path), file.attrs.mode
            if not path:
                continue
            if stat.S_ISREG(mode):
                if isinstance(reader, OSError):
                    found.problems[path] = str(reader)
                    continue
                try:
                    found.files[path] = f"file {digest(reader, file.attrs.size)}"
                except OSError as error:
                    found.problems[path] = str(error)
                reader.close()
            elif stat.S_ISLNK(mode):
                try:
                    found.files[path] = f"link {disks.readlink(file.path)}"
                except OSError as error:
                    found.problems[path] = str(error)
            elif stat.S_ISDIR(mode):
                found.files[path] = "directory"
    return found


def relative(path: str) -> str:
    return "/".join(path.split("/")[2:])


def digest(reader: object, size: int) -> str:
    value = hashlib.sha256(str(size).encode())
    starts = range(0, size, 1 << 20) if size <= LARGEST else (0, size - (1 << 20))
    for start in starts:
        reader.seek(start)  # type: ignore[attr-defined]
        value.update(reader.read(1 << 20))  # type: ignore[attr-defined]
    return value.hexdigest()


def read_by_debugfs(image: Path, folder: Path) -> Found | None:
    """Return what debugfs copies out, the journal replayed; None if it cannot open the image."""
    copy = folder / "copy.img"
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    out = folder / "out"
    out.mkdir()
    script = f'jo\njr\nrdump "/" {out}\n'
    try:
        done = subprocess.run(
            ["debugfs", "-w", "-f", "-", copy],
            input=script.encode(),
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if b"Filesystem not open" in done.stderr:
        return None
    found = Found()
    for top, names, files in os.walk(out):
        for name in names + files:
            full = Path(top, name)
            path = str(full.relative_to(out))
            mode = full.lstat().st_mode
            if stat.S_ISLNK(mode):
                found.files[path] = f"link {full.readlink()}"
            elif stat.S_ISDIR(mode):
                found.files[path] = "directory"
            elif stat.S_ISREG(mode):
                with full.open("rb") as file:
                    found.files[path] = f"file {digest(file, full.stat().st_size)}"
    return found


def test_every_image_is_refused_or_read_right(images: dict[str, Path], tmp_path: Path) -> None:
    wrong: dict[str, list[str]] = {}
    counts = {"equal": 0, "refused": 0, "in part": 0, "not by debugfs": 0}
    for name, image in sorted(images.items()):
        try:
            ours = read_by_us(image)
        except SourceError as error:
            ours = Found(problems={"": str(error)})
        if "" in ours.problems:
            counts["refused"] += 1
            continue
        folder = tmp_path / name
        folder.mkdir()
        theirs = read_by_debugfs(image, folder)
        subprocess.run(["rm", "-rf", folder], check=True)
        if theirs is None:
            counts["not by debugfs"] += 1
            continue
        different = [
            f"{path}: ours {ours.files[path]}, debugfs {theirs.files[path]}"
            for path in ours.files.keys() & theirs.files.keys()
            if ours.files[path] != theirs.files[path]
        ]
        missing = [
            f"{path}: only debugfs"
            for path in theirs.files.keys() - ours.files.keys()
            if not any(path == known or path.startswith(f"{known}/") for known in ours.problems)
        ]
        if different or missing:
            wrong[name] = different + missing
        counts["in part" if ours.problems else "equal"] += 1
    print(counts)
    assert wrong == {}
