"""Sources and commands that are slips, disks by name, and volumes that have another name in another set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.programs import run
from vmount.api import open_disks
from vmount.datastores.path import DatastorePath
from vmount.sources.san import is_browsing
from vmount.sources.san_address import parse_san

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

VMX = """config.version = "8"
scsi0.present = "TRUE"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "first.vmdk"
scsi0:1.present = "TRUE"
scsi0:1.fileName = "gone.vmdk"
"""


@pytest.fixture(scope="module")
def machine(linux: Path, images: Path) -> Path:
    folder = images / "machine of slips"
    folder.mkdir()
    disk = folder / "first.vmdk"
    option = "subformat=twoGbMaxExtentSparse"
    run("qemu-img", "convert", "-O", "vmdk", "-o", option, str(linux), str(disk))
    (folder / "machine.vmx").write_text(VMX)
    return folder / "machine.vmx"


@pytest.mark.parametrize("word", ["unmount", "mout", "umoutn"])
def test_a_word_like_a_command_is_not_looked_for_in_a_vcenter(vmount: Vmount, word: str) -> None:
    text = vmount.error(word, "x", "y", code=2)
    assert (
        f"{word}: unknown command; did you mean {'mount' if word == 'mout' else 'umount'}?" in text
    )


def test_a_file_that_is_no_disk_is_told_and_an_empty_disk_is_not(
    vmount: Vmount, tmp_path: Path
) -> None:
    random = tmp_path / "random"
    random.write_bytes(os.urandom(300_000))
    blank = tmp_path / "blank"
    blank.write_bytes(bytes(300_000))
    for source, count in ((Path("/etc/passwd"), 1), (random, 1), (blank, 0)):
        with open_disks(source) as disks:
            found = [text for text in disks.warnings if "it may not be a disk image" in text]
            assert len(found) == count, source


def test_a_part_of_a_disk_names_the_descriptor_beside_it(vmount: Vmount, machine: Path) -> None:
    part = machine.parent / "first-s001.vmdk"
    assert part.exists()
    assert f"descriptor of the disk: {machine.parent / 'first.vmdk'}" in vmount.error(
        "info", part, code=3
    )


def test_disks_by_name(vmount: Vmount, machine: Path) -> None:
    info = json.loads(vmount.run("info", "--json", "--disks", "scsi0:0", machine).stdout)
    shown = info[0] if isinstance(info, list) else info
    assert [disk["name"] for disk in shown["disks"]] == ["scsi0-0"]
    text = vmount.error("ls", "--disks", "scsi0-0,scsi3-3", machine, code=2)
    assert "has no disk scsi3-3; its disks are scsi0-0, scsi0-1" in text


def test_volumes_are_compared_by_what_they_are(vmount: Vmount, machine: Path) -> None:
    disk = machine.parent / "first.vmdk"
    done = vmount.run("diff", disk, machine, "--disks", "scsi0-0")
    assert done.stdout == b""
    assert b"volumes/disk0-p1 of" in done.stderr
    assert b"is volumes/scsi0-0-p1 of" in done.stderr
    assert vmount.run("diff", "--disks", "scsi0-0", disk, machine, "disk0-p1/etc").stdout == b""


@pytest.mark.parametrize(
    ("source", "luns", "path"),
    [
        ("san:/dev/sdb", ("/dev/sdb",), None),
        ("san:/dev/sdb:", ("/dev/sdb",), None),
        ("san:/dev/sdb:/", ("/dev/sdb",), None),
        ("san:/dev/disk/by-path/pci-0:0-lun-0", ("/dev/disk/by-path/pci-0:0-lun-0",), None),
        (
            "san:/dev/sdb,/dev/sdc:/a/b.vmdk",
            ("/dev/sdb", "/dev/sdc"),
            DatastorePath("", "a/b.vmdk"),
        ),
        ("san:[store] a/b.vmdk", (), DatastorePath("store", "a/b.vmdk")),
        ("san:/dev/sdb:[store] a/b.vmdk", ("/dev/sdb",), DatastorePath("store", "a/b.vmdk")),
    ],
)
def test_paths_of_a_datastore_without_brackets(
    source: str, luns: tuple[str, ...], path: DatastorePath | None
) -> None:
    address = parse_san(source)
    assert (address.luns, address.path) == (luns, path)
    assert is_browsing(source) == (path is None)
