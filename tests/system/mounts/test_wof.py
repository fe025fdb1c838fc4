"""Files compressed with WOF through the whole program: what is copied out is what Windows would show."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ntfs import mounted
from fixtures.programs import run
from fixtures.wof import CLOUD_TAG, FORMATS, STREAMS, WofVolume, build_wof, make_volume, reparse

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def wof(images: Path) -> WofVolume:
    return build_wof(images)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copies(top: Path, wof: WofVolume) -> dict[str, str]:
    return {path.decode(): sha256(top / path.decode()) for path in wof.sources}


def test_copies_are_what_was_compressed(wof: WofVolume, vmount: Vmount, tmp_path: Path) -> None:
    expected = {path.decode(): sha256(source) for path, source in wof.sources.items()}
    with vmount.mounted(wof.image) as mountpoint:
        volume = mountpoint / "volumes" / "disk0"
        assert copies(volume, wof) == expected
        run("cp", "-a", f"{volume}/.", f"{tmp_path}/cp")
        # To GNU tar a file without blocks is all hole.
        run("tar", "-cSf", f"{tmp_path}/all.tar", "-C", f"{volume}", ".")
        (tmp_path / "tar").mkdir()
        run("tar", "-xf", f"{tmp_path}/all.tar", "-C", f"{tmp_path}/tar")
        for made in (tmp_path / "cp", tmp_path / "tar"):
            assert copies(made, wof) == expected
        for path in wof.sources:
            assert os.listxattr(volume / path.decode()) == []
            # Neither a reparse point nor sparse: a restore would make of its bytes a file of WOF that is none.
            bits = os.getxattr(volume / path.decode(), "system.ntfs_attrib")
            assert not int.from_bytes(bits, "little") & 0x600
            with pytest.raises(OSError, match="No data available"):
                os.getxattr(volume / path.decode(), "system.ntfs_reparse_data")
        assert json.loads((mountpoint / "info.json").read_text())["warnings"] == []


def test_a_damaged_chunk_is_an_error(wof: WofVolume, vmount: Vmount, tmp_path: Path) -> None:
    """Only for reads that touch it; what was read before and behind it is right."""
    image = tmp_path / "damaged.img"
    shutil.copy(wof.image, image)
    form = FORMATS[1]
    # Of 40 chunks: the first begins behind the table.
    path = f"{form.name}/text {40 * form.unit}"
    content = wof.sources[path.encode()].read_bytes()
    stream = wof.streams[path.encode()].read_bytes()
    data = bytearray(image.read_bytes())
    at, table = data.index(stream), 39 * 4
    data[at + table : at + table + 256] = b"\xff" * 256
    image.write_bytes(data)
    with vmount.mounted(image) as mountpoint:
        victim = os.open(mountpoint / "volumes" / "disk0" / path, os.O_RDONLY | os.O_DIRECT)
        try:
            with pytest.raises(OSError, match="cleaning") as caught:
                os.pread(victim, 100, 0)
            assert caught.value.errno == errno.EUCLEAN
            assert os.pread(victim, 5000, form.unit) == content[form.unit : form.unit + 5000]
        finally:
            os.close(victim)


def test_what_is_refused_is_not_archived_as_zeros(vmount: Vmount, tmp_path: Path) -> None:
    """A placeholder has no blocks; tar -S takes such a file for a hole unless it is told otherwise."""
    image = make_volume(tmp_path / "cloud.img", 16 << 20)
    with mounted(image, tmp_path, STREAMS) as top:
        with (top / "placeholder").open("wb") as file:
            file.truncate(200_000)
        os.setxattr(top / "placeholder", "system.ntfs_reparse_data", reparse(CLOUD_TAG, bytes(16)))
    with vmount.mounted(image) as mountpoint:
        volume = mountpoint / "volumes" / "disk0"
        assert (volume / "placeholder").stat().st_size == 200_000
        with pytest.raises(OSError, match="not supported") as caught:
            (volume / "placeholder").read_bytes()
        assert caught.value.errno == errno.EOPNOTSUPP
        with pytest.raises(RuntimeError, match="placeholder"):
            run("tar", "-cSf", f"{tmp_path}/all.tar", "-C", f"{volume}", "placeholder")
