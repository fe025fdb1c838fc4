"""Damage and hostility through the whole program: one line that names the thing, or an error for that
object only; the mount goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.demo import build as build_demo
from fixtures.ext import EVERYDAY, ExtFixture, build
from fixtures.ntfs import NtfsVolume, build_small
from fixtures.programs import output, run
from fixtures.walk import walk
from vmount.api import DiskSet, open_disks
from vmount.errors import SourceError

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount

ALLOWED = {
    errno.EIO,
    errno.EUCLEAN,
    errno.EOPNOTSUPP,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
}
"""What a damaged object may cost."""


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flat") / "flat.raw"
    with path.open("wb") as file:
        file.truncate(4 << 20)
        file.seek(1 << 20)
        file.write(random.Random(1).randbytes(1 << 20))
    return path


@pytest.fixture(scope="module")
def ext(images: Path) -> ExtFixture:
    return build(EVERYDAY[0], images)


@pytest.fixture(scope="module")
def ntfs(images: Path) -> NtfsVolume:
    return build_small(images)


def converted(flat: Path, target: Path, subformat: str) -> Path:
    option = f"subformat={subformat}"
    run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", option, str(flat), str(target))
    return target


def patched(path: Path, offset: int, data: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return path


def test_vmdks_that_cannot_be_opened(vmount: Vmount, flat: Path, tmp_path: Path) -> None:
    sparse = converted(flat, tmp_path / "sparse.vmdk", "monolithicSparse")
    monolithic = converted(flat, tmp_path / "mono.vmdk", "monolithicFlat")
    stream = converted(flat, tmp_path / "stream.vmdk", "streamOptimized")
    split = converted(flat, tmp_path / "split.vmdk", "twoGbMaxExtentSparse")
    text = monolithic.read_text()

    def copy(source: Path, name: str) -> Path:
        return Path(shutil.copy(source, tmp_path / name))

    cut = copy(sparse, "cut.vmdk")
    os.truncate(cut, 600)
    zeroed = patched(copy(sparse, "zeroed.vmdk"), 0, bytes(512))
    cut_stream = copy(stream, "cutstream.vmdk")
    os.truncate(cut_stream, stream.stat().st_size // 2)
    half = tmp_path / "half.vmdk"
    half.write_text(text[: text.index("RW ")])
    gone = tmp_path / "gone.vmdk"
    gone.write_text(text.replace("mono-flat.vmdk", "nowhere-flat.vmdk"))
    short = tmp_path / "short.vmdk"
    short.write_text(text.replace("mono-flat.vmdk", "short-flat.vmdk"))
    (tmp_path / "short-flat.vmdk").write_bytes(bytes(1000))
    outside = tmp_path / "outside.vmdk"
    outside.write_text(text.replace("mono-flat.vmdk", "/etc/passwd").replace("RW 8192", "RW 1"))
    extent = tmp_path / "split-s001.vmdk"
    assert split.exists()
    for path, words in (
        (cut, "cut.vmdk: read beyond the end"),
        (zeroed, "neither a VMDK header nor a descriptor"),
        (half, "half.vmdk: descriptor without extents"),
        (gone, "nowhere-flat.vmdk"),
        (short, "found 1000"),
        (outside, "/etc/passwd"),
        (extent, "split-s001.vmdk: sparse extent without the descriptor"),
    ):
        line = vmount.error("info", path, code=3)
        assert str(tmp_path) in line
        assert words in line
    with (
        open_disks(cut_stream) as disks,
        disks.open("disks/disk0.raw") as block,
        pytest.raises(OSError, match=r"cutstream.vmdk.*compressed grain"),
    ):
        block.read()


@pytest.mark.requirement("R31")
def test_chains_that_cannot_be_opened(vmount: Vmount, flat: Path, tmp_path: Path) -> None:
    base = converted(flat, tmp_path / "base.vmdk", "monolithicSparse")
    child = tmp_path / "child.vmdk"
    run(
        *("qemu-img", "create", "-q", "-f", "vmdk"),
        *("-b", str(base), "-F", "vmdk", str(child)),
    )
    content = child.read_bytes()
    at = content.index(b"parentCID=") + len(b"parentCID=")
    wrong = Path(shutil.copy(child, tmp_path / "wrong.vmdk"))
    patched(wrong, at, b"12345678")
    line = vmount.error("info", wrong, code=3)
    assert "wrong.vmdk" in line
    assert "12345678" in line
    assert line.endswith("--force")
    done = json.loads(vmount.run("info", "--json", "--force", wrong).stdout)
    assert any("12345678" in warning for warning in done["warnings"])
    base.rename(tmp_path / "elsewhere.vmdk")
    assert "base.vmdk" in vmount.error("info", child, code=3)
    shutil.copy(child, base)
    line = vmount.error("info", "--force", child, code=3)
    assert "base.vmdk" in line


def test_a_disk_that_cannot_be_opened_does_not_keep_the_others_away(
    vmount: Vmount, tmp_path: Path
) -> None:
    build_demo(tmp_path)
    patched(tmp_path / "linux.vmdk", 0, bytes(4096))
    info = json.loads(vmount.run("info", "--json", tmp_path / "demo.vmx").stdout)
    problems = {disk["name"]: disk["problem"] for disk in info["disks"]}
    assert problems["scsi0-0"] is None
    assert "linux.vmdk" in problems["scsi0-1"]
    assert any("linux.vmdk" in warning for warning in info["warnings"])
    with vmount.mounted(tmp_path / "demo.vmx") as mountpoint:
        assert (mountpoint / "volumes/scsi0-0-p1/letter.txt").read_text().startswith("Grüße")


def test_a_damaged_ext_file_costs_that_file(
    vmount: Vmount, ext: ExtFixture, tmp_path: Path
) -> None:
    image = Path(shutil.copy(ext.image, tmp_path / "ext.img"))
    victim = next(
        entry for entry in ext.entries if entry.walked.type == "file" and entry.walked.size > 4096
    )
    where = output("debugfs", "-R", f"imap <{victim.ino}>", str(image)).decode()
    block, offset = (
        int(where.partition(word)[2].split()[0].rstrip(","), 0)
        for word in ("located at block", "offset")
    )
    size = int(ext.blkid["BLOCK_SIZE"])
    patched(image, block * size + offset + 40, os.urandom(60))
    with vmount.mounted(image) as mountpoint:
        root = mountpoint / "volumes/disk0"
        damaged = os.path.join(os.fsencode(root), victim.walked.path)
        with pytest.raises(OSError, match="cleaning"):
            os.stat(damaged)
        siblings = os.listdir(os.path.dirname(damaged))
        assert os.path.basename(damaged) in siblings
        for entry in ext.entries:
            if entry.ino != victim.ino:
                os.lstat(os.path.join(os.fsencode(root), entry.walked.path))


def test_a_damaged_ntfs_record_costs_that_file(
    vmount: Vmount, ntfs: NtfsVolume, tmp_path: Path
) -> None:
    image = Path(shutil.copy(ntfs.image, tmp_path / "ntfs.img"))
    with vmount.mounted(image) as mountpoint:
        victim = next(
            entry
            for entry in ntfs.walk
            if entry.type == "file" and entry.size > 70_000 and b"links" not in entry.path
        )
        path = os.path.join(os.fsencode(mountpoint / "volumes/disk0"), victim.path)
        number = os.stat(path).st_ino & (1 << 48) - 1
    shown = output("ntfsinfo", "-f", "-i", str(number), str(image)).decode()
    assert f"Inode: {number}" in shown or str(number) in shown
    boot = image.read_bytes()[:512]
    cluster = boot[13] * int.from_bytes(boot[11:13], "little")
    table = int.from_bytes(boot[48:56], "little") * cluster
    data = image.read_bytes()
    record = table + number * 1024
    if data[record : record + 4] != b"FILE":
        pytest.fail("the MFT of the fixture is not in one piece")
    patched(image, record + 510, b"\xde\xad")
    with vmount.mounted(image) as mountpoint:
        path = os.path.join(os.fsencode(mountpoint / "volumes/disk0"), victim.path)
        with pytest.raises(OSError, match="cleaning"):
            os.stat(path)
        found = walk(mountpoint / "volumes/disk0/names")
        assert len(found) > 3


def test_the_mount_outlives_random_damage(vmount: Vmount, tmp_path: Path) -> None:
    """R22: seeded damage all over an NTFS and an ext4 disk; everything is walked, nothing hangs."""
    build_demo(tmp_path)
    for disk in ("windows", "linux"):
        run(
            "qemu-img", "convert", "-O", "raw", str(tmp_path / f"{disk}.vmdk"), str(tmp_path / disk)
        )
        with (tmp_path / disk).open("r+b") as file:
            chosen = random.Random(disk)
            for _ in range(3000):
                file.seek(chosen.randrange(1 << 20, 26 << 20))
                file.write(chosen.randbytes(chosen.choice((1, 2, 8))))
    with vmount.mounted(tmp_path / "windows", tmp_path / "linux") as mountpoint:
        began = time.monotonic()
        for folder, folders, files in os.walk(os.fsencode(mountpoint)):
            for name in [*files, *folders]:
                try:
                    path = os.path.join(folder, name)
                    os.lstat(path)
                    if not os.path.isdir(path) and not path.endswith(b".raw"):
                        Path(os.fsdecode(path)).read_bytes()
                except OSError as error:
                    assert error.errno in ALLOWED
        assert time.monotonic() - began < 60
        assert json.loads((mountpoint / ".vmount/status.json").read_text())["open_files"] >= 0


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("seed", range(24))
def test_mutated_disks_through_the_api(seed: int, tmp_path: Path, images: Path) -> None:
    folder = images / "mutated"
    if not (folder / "SHA256SUMS").exists():
        build_demo(folder)
    chosen = random.Random(seed)
    name = ("windows.vmdk", "linux.vmdk")[seed % 2]
    data = bytearray((folder / name).read_bytes())
    for _ in range(chosen.choice((1, 10, 200))):
        at = chosen.choice((chosen.randrange(len(data)), chosen.randrange(min(len(data), 1 << 16))))
        data[at : at + 4] = chosen.randbytes(len(data[at : at + 4]))
    if seed % 5 == 0:
        del data[chosen.randrange(len(data)) :]
    path = tmp_path / name
    path.write_bytes(data)
    began = time.process_time()
    try:
        with open_disks(path) as disks:
            walk_all(disks)
    except SourceError:
        pass
    assert time.process_time() - began < 20


def walk_all(disks: DiskSet) -> None:
    pending, seen = ["/volumes"], 0
    while pending and seen < 5000:
        here = pending.pop()
        try:
            entries = disks.listdir(here)
        except OSError as error:
            assert error.errno in ALLOWED
            continue
        for name, _ in entries:
            seen += 1
            path = f"{here}/{name}"
            try:
                if disks.stat(path, follow=False).mode & 0o170000 == 0o040000:
                    if path.count("/") < 12:
                        pending.append(path)
                elif not path.endswith(".raw"):
                    with disks.open(path) as file:
                        file.read(1 << 20)
            except OSError as error:
                assert error.errno in ALLOWED


@pytest.mark.requirement("R1")
def test_partitions_that_cannot_be(vmount: Vmount, ext: ExtFixture, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(40 << 20)
        file.seek(1 << 20)
        file.write(ext.image.read_bytes()[: 30 << 20])
    size = ext.image.stat().st_size // 512
    script = f"label: dos\nstart=2048, size={size}\nstart={2048 + size}, size=1000\n"
    run("sfdisk", "--no-reread", "-q", str(disk), stdin=script)
    patched(disk, 446 + 16 + 8, (3 << 30).to_bytes(4, "little"))
    info = json.loads(vmount.run("info", "--json", disk).stdout)
    assert [volume["problem"] is None for volume in info["volumes"]] == [True, False]
    assert "past the end of the disk" in info["volumes"][1]["problem"]
    with vmount.mounted(disk) as mountpoint:
        assert walk(mountpoint / "volumes/disk0-p1") == [entry.walked for entry in ext.entries]


@pytest.mark.requirement("R17")
def test_a_copy_is_not_led_out_of_its_target(tmp_path: Path) -> None:
    """A link and a directory of one name: whoever follows the link writes where the disk says."""
    tree, image, prey = tmp_path / "tree", tmp_path / "evil.img", tmp_path / "prey"
    prey.mkdir()
    (tree / "aaaa").mkdir(parents=True)
    (tree / "aaaa" / "payload").write_text("gotcha")
    (tree / "bbbb").symlink_to(prey)
    with image.open("wb") as file:
        file.truncate(4 << 20)
    options = ["-O", "^metadata_csum,^dir_index", "-d", str(tree)]
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", *options, image], check=True)
    data = image.read_bytes()
    # The names lie in the root directory's block; both entries become "bbbb", the link first.
    places = [at for at in range(len(data)) if data.startswith(b"aaaa", at)]
    (place,) = [at for at in places if data[at - 2] == 4 and data[at - 1] == 2]
    patched(image, place, b"bbbb")
    environment = {**os.environ, "LANG": "C"}
    command = ["-m", "vmount", "cp", str(image), "disk0", str(tmp_path / "copy")]
    subprocess.run([sys.executable, *command], env=environment, check=False, capture_output=True)
    assert not list(prey.iterdir())
    assert (tmp_path / "copy" / "bbbb").exists() or (tmp_path / "copy" / "bbbb").is_symlink()
