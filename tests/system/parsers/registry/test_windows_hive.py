"""A SYSTEM hive that Windows wrote, whole, as hivex reads it."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from fixtures.hives import read_by_hivex
from tests.support.downloads import member_of, python_sdist
from tests.system.parsers.registry.test_hive import walk
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.registry import open_hive
from vmount.parsers.registry.mounted_devices import VolumeId, decode_mounted_devices

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = (
    "dissect.regf",
    "3.14",
    "0df90d4e68453dae1e75a50bd343d84ffc413f4e65d527c05f657b7ea9f30f33",
)


@pytest.fixture(scope="module")
def hive() -> bytes:
    return gzip.decompress(member_of(python_sdist(*SOURCE), "tests/_data/SYSTEM.gz"))


def test_every_key_and_value_of_a_hive_of_windows(hive: bytes, tmp_path: Path) -> None:
    path = tmp_path / "SYSTEM"
    path.write_bytes(hive)
    expected = read_by_hivex(path)
    assert len(expected) > 10_000
    found = walk(run_sync(open_hive(BytesReader(hive))), most=len(expected))
    assert found.keys() == expected.keys()
    differing = [key for key, values in expected.items() if found[key] != values]
    assert differing == []


def test_letters_that_windows_gave(hive: bytes, tmp_path: Path) -> None:
    opened = run_sync(open_hive(BytesReader(hive)))
    key = run_sync(opened.find("MountedDevices"))
    assert key is not None
    devices = decode_mounted_devices(run_sync(opened.values(key)))
    letters = {device.letter: device.device for device in devices if device.letter}
    assert set(letters) == {"A", "C", "D"}
    assert letters["A"] is letters["D"] is None  # a floppy and a CD drive
    path = tmp_path / "SYSTEM"
    path.write_bytes(hive)
    raw = read_by_hivex(path)["MountedDevices"]["\\DosDevices\\C:"]
    assert isinstance(raw, bytes)
    assert letters["C"] == VolumeId(raw.removeprefix(b"DMIO:ID:"))
