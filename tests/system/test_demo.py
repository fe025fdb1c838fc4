"""The demonstration's virtual machine is what its checksums say, as other programs read it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from fixtures import demo
from fixtures.partitions import listing
from fixtures.programs import run
from fixtures.signatures import blkid
from tests.support.paths import ROOT


def test_the_checksums_are_those_of_the_files_that_went_in(tmp_path: Path) -> None:
    demo.build(tmp_path)
    sums = [line.split() for line in (tmp_path / "SHA256SUMS").read_text().splitlines()]
    assert len(sums) == 2 * len(demo.FILES)
    for digest, name in sums:
        assert digest == hashlib.sha256(demo.FILES[Path(name).name]).hexdigest()


def test_each_disk_holds_one_partition_with_its_file_system(tmp_path: Path) -> None:
    demo.build(tmp_path)
    for disk, fstype in (("windows", "ntfs"), ("linux", "ext4")):
        raw, volume = tmp_path / f"{disk}.raw", tmp_path / fstype
        run("qemu-img", "convert", "-O", "raw", str(tmp_path / f"{disk}.vmdk"), str(raw))
        (partition,) = listing(raw)
        content = raw.read_bytes()
        volume.write_bytes(content[partition.offset : partition.offset + partition.length])
        assert partition.number == 1
        assert blkid(volume)[0] == fstype
        assert f'"{disk}.vmdk"' in (tmp_path / "demo.vmx").read_text()


def test_the_scripts_are_good_shell() -> None:
    root = ROOT
    for script in (root / "scripts" / "setup", root / "scripts" / "demo", root / ".ci" / "run"):
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert script.stat().st_mode & 0o111
