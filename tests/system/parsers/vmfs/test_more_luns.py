"""ESXi's datastores of other shapes, from dissect.vmfs's tests, where somebody has fetched them.

`scripts/fetch-vmfs-luns` does: spanned, VMFS-L, 512 KiB blocks, without dense sub-blocks, LVM-3 to LVM-6.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from dissect.vmfs import lvm

from tests.support.parsers.vmfs.readers import (
    FileReader,
    open_files,
    paths_of,
    walk_dissect,
    walk_parser,
)
from vmount.parsers.reader import run_sync
from vmount.parsers.vmfs.volume import open_volume

pytestmark = pytest.mark.slow

DATASTORES = [
    ["vmfs/vmfs5-no-dense-sbpc"],
    ["vmfs/vmfs5-resource-optimized"],
    ["vmfs/vmfs6-resource-optimized"],
    ["vmfs/vmfs5l"],
    ["vmfs/vmfs6l"],
    ["vmfs/span/vmfs5-span-1", "vmfs/span/vmfs5-span-0"],
    ["vmfs/span/vmfs6-span-1", "vmfs/span/vmfs6-span-0"],
]
VOLUMES = [
    *([f"lvm/lvm{version}"] for version in (3, 4, 5, 6)),
    *([f"lvm/span/lvm{version}-span-{part}" for part in (0, 1)] for version in (3, 4, 5, 6)),
]


def unpacked(names: list[str], folder: Path) -> list[Path]:
    place = os.environ.get("VMOUNT_VMFS_LUNS")
    if not place:
        pytest.skip("run scripts/fetch-vmfs-luns FOLDER and set VMOUNT_VMFS_LUNS to the folder")
    paths = []
    for name in names:
        path = folder / f"{Path(name).name}.img"
        with subprocess.Popen(
            ["gzip", "-dc", f"{place}/{name}.bin.gz"], stdout=subprocess.PIPE
        ) as source:
            subprocess.run(
                ["dd", f"of={path}", "bs=64K", "iflag=fullblock", "conv=sparse", "status=none"],
                stdin=source.stdout,
                check=True,
            )
        assert source.returncode == 0
        paths.append(path)
    return paths


@pytest.mark.requirement("R26")
@pytest.mark.parametrize("names", DATASTORES, ids=lambda names: Path(names[0]).name)
def test_dissect_sees_the_same_datastore(names: list[str], tmp_path: Path) -> None:
    paths = unpacked(names, tmp_path)
    filesystem = open_files(paths)
    seen = walk_parser(filesystem)
    assert len(seen) >= 7
    assert seen == walk_dissect(paths, paths_of(filesystem))


@pytest.mark.parametrize("names", VOLUMES, ids=lambda names: Path(names[0]).name)
def test_dissect_puts_the_same_volume_together(names: list[str], tmp_path: Path) -> None:
    paths = unpacked(names, tmp_path)
    volume = run_sync(open_volume([FileReader(path) for path in paths]))
    files = [path.open("rb") for path in paths]
    (theirs,) = lvm.LVM(list(files)).volumes
    expected = [
        (offset, length, [place.fh for place in theirs.devices].index(device.fh), start)
        for offset, start, length, device in theirs.dataruns()
    ]
    assert list(volume.pieces) == expected
    for file in files:
        file.close()
