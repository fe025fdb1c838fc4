"""Damaged volumes, read beside exfat-fuse: a file that both read has the same bytes.

Bytes past a file's valid length are left out: they are zeros by the specification, and exfat-fuse shows what
lies on the disk.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from typing import TYPE_CHECKING

import pytest

from fixtures.exfat import OPTIONS, attached, build_small, mounted
from vmount.api import open_disks
from vmount.errors import SourceError
from vmount.parsers.exfat import open_exfat
from vmount.parsers.exfat.boot import decode_boot
from vmount.parsers.exfat.directory import place_of
from vmount.parsers.exfat.entry_set import decode_set, set_checksum
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

    from vmount.parsers.model import Ino

pytestmark = pytest.mark.mount

IMAGES = 24
LARGEST = 16 << 20
"""Bytes of a file that is compared."""
LAST_CLUSTER = 400
"""Damage is done to the chains of those below, which are in use."""


def files_of(data: bytes) -> list[Ino]:
    """Return the numbers of all files."""
    filesystem = run_sync(open_exfat(BytesReader(data)))
    found: list[Ino] = []
    pending = [filesystem.root]
    while pending:
        for entry in run_sync(filesystem.listdir(pending.pop())):
            found.append(entry.ino)
            if entry.kind == stat.S_IFDIR:
                pending.append(entry.ino)
    return found


def damaged(data: bytes, files: list[Ino], seed: int) -> bytes:
    """Return an image with a few wrong links in chains, wrong entries with right checksums, wrong bytes."""
    rng, image = random.Random(seed), bytearray(data)
    boot = decode_boot(data[:512])
    for _ in range(rng.randint(1, 3)):
        match rng.randrange(3):
            case 0:
                cluster = rng.randrange(2, LAST_CLUSTER)
                value = rng.choice(
                    [0, 1, 2, 0xFFFFFFFF, 0xFFFFFFF7, cluster + 2, rng.randrange(2000)]
                )
                at = boot.fat_offset + cluster * 4
                image[at : at + 4] = value.to_bytes(4, "little")
            case 1:
                place, _ = place_of(rng.choice(files))
                raw = image[place : place + decode_set(data[place : place + 256 * 32]).entries * 32]
                size = rng.choice([0, 1, 4096, 4097, 9000]).to_bytes(8, "little")
                first = rng.choice([0, 1, 2, 5, 300, 5000, 0xFFFFFFFF]).to_bytes(4, "little")
                at, new = rng.choice(
                    [(33, bytes([rng.choice([0, 1, 2, 3])])), (40, size), (52, first)]
                )
                raw[at : at + len(new)] = new
                if at == 40:
                    raw[56:64] = size
                raw[2:4] = set_checksum(bytes(raw)).to_bytes(2, "little")
                image[place : place + len(raw)] = raw
            case _:
                image[rng.randrange(1 << 21)] ^= 1 << rng.randrange(8)
    return bytes(image)


def read_by_us(image: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with open_disks(image) as disks:
            for file in disks.below("volumes/disk0", lambda _error: None):
                if not stat.S_ISREG(file.attrs.mode) or file.attrs.size > LARGEST:
                    continue
                try:
                    with disks.open(file.path) as content:
                        digest = hashlib.sha256(content.read()).hexdigest()
                except OSError:
                    continue
                found[file.path.removeprefix("volumes/disk0/")] = digest
    except (SourceError, FileNotFoundError):
        pass
    return found


def read_by_them(image: Path, mountpoint: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    with (
        attached(image, 512) as device,
        mounted(device, mountpoint, f"ro,{OPTIONS}") as top,
    ):
        for folder, _, names in os.walk(top):
            for name in names:
                path = top / folder / name
                try:
                    if path.stat().st_size <= LARGEST:
                        digest = hashlib.sha256(path.read_bytes()).hexdigest()
                        found[str(path.relative_to(top))] = digest
                except OSError:
                    continue
    return found


def test_files_that_both_read_are_the_same(tmp_path: Path) -> None:
    data = build_small(tmp_path, 4096, 512, 8 << 20).image.read_bytes()
    files = files_of(data)
    image = tmp_path / "damaged.img"
    compared = 0
    for seed in range(IMAGES):
        image.write_bytes(damaged(data, files, seed))
        try:
            theirs = read_by_them(image, tmp_path / "mnt")
        except RuntimeError:  # it does not mount it
            continue
        ours = read_by_us(image)
        both = ours.keys() & theirs.keys()
        assert {path: ours[path] for path in both} == {path: theirs[path] for path in both}, seed
        compared += len(both)
    assert compared > IMAGES * 200
