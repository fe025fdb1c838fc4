"""Small images with files of every kind, made with the tools that format and fill such volumes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fixtures import exfat, fat
from fixtures.ntfs import junction_reparse, symlink_reparse, text
from fixtures.ntfs import mounted as mounted_ntfs
from fixtures.partitions import MIB, blank, sfdisk, sgdisk
from fixtures.programs import run
from fixtures.wof import FORMATS, STREAMS, compress, make_volume, place_wof
from fixtures.xfs import Recipe
from fixtures.xfs import build as build_xfs
from tests.support.parsers.ldm.build import ALL_KINDS, Group, write_disk
from tests.support.parsers.vmdk import build as vmdk

COMPRESSED_FOLDER = (0x0800).to_bytes(4, "little")
"""For system.ntfs_attrib, which ntfs-3g takes in the machine's order."""
NAMES = 90
"""In the large folder: more than fit into one block of an index or directory."""


def populate(top: Path) -> None:
    """Fill a folder with what every file system can hold."""
    top.mkdir(exist_ok=True)
    (top / "empty").touch()
    for size in (60, 700, 5000, 70_000):
        (top / f"text {size}").write_bytes(text(size, size))
    (top / "a/b/c").mkdir(parents=True)
    (top / "a/b/c/deep").write_text("deep")
    (top / "large").mkdir()
    for number in range(NAMES):
        (top / "large" / f"a name of some length {number:03}").write_bytes(b"x" * number)


def populate_unix(top: Path) -> None:
    """Fill a folder with what an ext volume holds besides."""
    populate(top)
    (top / "link").symlink_to("a/b/c/deep")
    (top / "long link").symlink_to("x/" * 100)
    os.link(top / "text 700", top / "a" / "hard link")
    os.setxattr(top / "text 700", "user.small", b"value")
    os.setxattr(top / "empty", "user.large", b"v" * 700)
    with (top / "sparse").open("wb") as file:
        for number in range(12):
            file.seek(number * 50_000)
            file.write(b"piece")


def ext(folder: Path, name: str, options: str, size: int = 2 * MIB) -> Path:
    """Make an ext volume; its checksums are off, or they would refuse nearly every damage."""
    tree, image = folder / f"{name}.tree", folder / f"{name}.img"
    populate_unix(tree)
    run("mke2fs", "-q", "-F", "-d", str(tree), *options.split(), str(blank(image, size)))
    run("e2fsck", "-fyD", str(image), may_fail=True)
    return image


def ext_dirty(folder: Path) -> Path:
    """Make an ext volume with a journal to be replayed."""
    image = ext(folder, "dirty", "-t ext4 -b 1024 -O ^metadata_csum -J size=1", 8 * MIB)
    block = folder / "block"
    block.write_bytes(b"\xc0\x3b\x39\x98" + bytes(1020))
    commands = folder / "commands"
    commands.write_text(f"jo\njw -b 700,701,702 {block}\njw -r 701\njw -b 702 {block}\njc\n")
    run("debugfs", "-w", "-f", str(commands), str(image))
    return image


def xfs(folder: Path) -> list[Path]:
    """Make XFS volumes of version 4: the checksums of version 5 would refuse nearly every damage."""
    recipes = (
        Recipe("plain", "-m crc=0 -n ftype=1", 24 * MIB, mountable=False, names=NAMES),
        Recipe("old", "-m crc=0 -b size=512 -i size=256", 24 * MIB, mountable=False, names=NAMES),
        Recipe(
            "large-dir", "-m crc=0 -b size=1024 -n size=16384", 24 * MIB, mountable=False, names=800
        ),
    )
    return [build_xfs(recipe, folder).image for recipe in recipes]


def ntfs(folder: Path) -> Path:
    """Make an NTFS volume with resident, compressed, sparse and linked files, and streams."""
    image = make_volume(folder / "ntfs.img", 8 * MIB)
    with mounted_ntfs(image, folder, "streams_interface=xattr,compression") as top:
        populate(top)
        (top / "packed").mkdir()
        os.setxattr(top / "packed", "system.ntfs_attrib", COMPRESSED_FOLDER)
        (top / "packed/text").write_bytes(text(9, 150_000))
        with (top / "sparse").open("wb", buffering=0) as file:
            for number in range(150):
                file.seek(number * 70_000)
                file.write(b"piece")
        os.setxattr(top / "text 700", "user.stream", b"value")
        os.setxattr(top / "text 60", "user.large", text(3, 20_000))
        os.link(top / "text 700", top / "a" / "hard link")
        for name, value in (
            ("link", symlink_reparse(r"a\b", relative=True)),
            ("junction", junction_reparse(r"C:\a\b")),
        ):
            (top / name).mkdir()
            os.setxattr(top / name, "system.ntfs_reparse_data", value)
    return image


def wof(folder: Path) -> tuple[Path, Mapping[str, list[bytes]]]:
    """Make an NTFS volume with compressed system files; also return their streams by format."""
    image = make_volume(folder / "wof.img", 8 * MIB)
    sources, streams = folder / "wof-sources", {}
    sources.mkdir()
    for size in (3000, 90_000):
        (sources / f"{size}").write_bytes(text(size, size))
    with mounted_ntfs(image, folder, STREAMS) as top:
        for form in FORMATS:
            (top / form.name).mkdir()
            made = compress(sources, form, folder)
            for name, stream in made.items():
                place_wof(top / form.name / name, int(name), stream, form.code)
            streams[form.name] = list(made.values())
    return image, streams


def fat_volume(folder: Path, bits: int) -> Path:
    """Make a FAT12, FAT16 or FAT32 volume."""
    image, tree = folder / f"fat{bits}.img", folder / f"fat{bits}.tree"
    populate(tree)
    size = {12: 2, 16: 6, 32: 36}[bits] * MIB
    fat.build_empty(image, size, "-F", str(bits), "-s", "1" if bits != 12 else "4")
    names = [str(path) for path in sorted(tree.iterdir())]
    fat.run("mcopy", "-s", "-Q", "-i", str(image), *names, "::/")
    return image


def exfat_volume(folder: Path) -> Path:
    """Make an exFAT volume."""
    image = folder / "exfat.img"
    exfat.format_image(image, 4 * MIB, 4096)
    with (
        exfat.attached(image, 512) as device,
        exfat.mounted(device, folder / "exfat.mnt", "rw") as top,
    ):
        populate(top)
    return image


def partitioned(folder: Path) -> list[Path]:
    """Make disks with an MBR, logical partitions included, and with a GPT."""
    mbr = blank(folder / "mbr.img", 16 * MIB)
    sfdisk(mbr, "label: dos\nsize=2048\nsize=2048\nsize=20480, type=5\n" + "size=1024\n" * 3)
    gpt = blank(folder / "gpt.img", 4 * MIB)
    sgdisk(gpt, "--new=1:2048:4095", "--new=2:4096:6143", "--change-name=2:data")
    return [mbr, gpt]


def dynamic(folder: Path) -> list[Path]:
    """Make one member of a group of dynamic disks, on an MBR and on a GPT."""
    paths = []
    for gpt in (False, True):
        paths.append(folder / f"ldm-{gpt}.img")
        write_disk(Group(3, ALL_KINDS, gpt=gpt), 0, paths[-1])
    return paths


def vmdks(folder: Path) -> dict[str, bytes]:
    """Make a virtual disk of every kind, 32 MiB with a few grains in it; a child names its parent "x"."""
    grains = {n: text(n, 65_536) for n in (0, 1, 7, 511)}
    small = {n: text(n, 512) for n in (0, 1, 77, 4095)}
    parent = (0x12345678, "x")
    images = {
        "sparse": vmdk.hosted(65_536, grains, vmdk.descriptor(['RW 65536 SPARSE "top"'])),
        "child": vmdk.hosted(
            65_536, {}, vmdk.descriptor(['RW 65536 SPARSE "top"'], parent=parent), redundant=False
        ),
        "stream": vmdk.streamed(65_536, grains, vmdk.descriptor(['RW 65536 SPARSE "top"'])),
        "cowd": vmdk.cow(65_536, small),
        "sesparse": vmdk.space_efficient(65_536, {n: text(n, 4096) for n in (0, 9, 4097)}),
    }
    return {
        name: image.write(folder / f"{name}.vmdk").read_bytes() for name, image in images.items()
    }


def vmfs(folder: Path, archive: Path) -> list[Path]:
    """Unpack datastores that ESXi wrote: no program on Linux makes any."""
    subprocess.run(["tar", "-xSJf", archive, "-C", folder], check=True)
    return sorted(folder.glob("vmfs*.img"))


EXT: Mapping[str, str] = {
    "plain": "-t ext4 -b 1024 -O ^metadata_csum,^has_journal",
    "inline": "-t ext4 -b 1024 -I 256 -O inline_data,^metadata_csum,^has_journal",
    "ext2": "-t ext2 -b 1024",
    "checked": "-t ext4 -b 1024 -O metadata_csum,^has_journal",
}
