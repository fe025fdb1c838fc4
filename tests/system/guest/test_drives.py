"""Letters by MountedDevices, by hand, and ours."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fixtures import guests
from fixtures.hives import BINARY
from fixtures.partitions import MIB
from tests.system.guest.test_fstab import found_on
from vmount.errors import UsageError
from vmount.guest.drives import Drives, find_drives
from vmount.guest.links import DriveLinks
from vmount.parsers.model import ReparseLink
from vmount.parsers.registry import Value
from vmount.parsers.registry.mounted_devices import decode_mounted_devices
from vmount.volumes.find import Found

if TYPE_CHECKING:
    from vmount.parsers.registry.mounted_devices import MountedDevice

DYNAMIC_GUID = "0d3b1c2a-9f4e-4c1d-8a77-0c1de0f3e001"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Four volumes on one disk: an MBR's partitions, the third hidden, the fourth for Linux."""
    folder = tmp_path_factory.mktemp("drives")
    ntfs = guests.make_ntfs(folder / "ntfs.img", {})
    (folder / "tree").mkdir()
    ext = guests.make_ext4(folder / "ext.img", guests.ROOT_UUID, "x", folder / "tree")
    lines = [(ntfs, "type=7"), (ntfs, "type=7"), (ntfs, "type=17"), (ext, "type=83")]
    label = f"label: dos\nlabel-id: {guests.SIGNATURE:#x}"
    return found_on(guests.make_disk(folder / "disk.img", label, lines))


def devices(**values: bytes) -> tuple[MountedDevice, ...]:
    names = {name: f"\\DosDevices\\{name}:" if len(name) == 1 else name for name in values}
    return decode_mounted_devices(Value(names[name], BINARY, values[name]) for name in values)


def given(drives: Drives) -> dict[str, tuple[str, bool]]:
    return {each.letter: (each.volume, each.assigned) for each in drives.letters.values()}


def test_letters_of_an_mbr(found: Found) -> None:
    known = devices(
        K=guests.mbr_device(MIB),
        L=guests.mbr_device(MIB + 1),
        M=guests.mbr_device(MIB, 0xDEADBEEF),
        N=b"short",
        D=guests.gpt_device(DYNAMIC_GUID),
        unknown=guests.mbr_device(MIB),
    )
    # D, L, M and N are the guest's, for what is not here.
    assert given(find_drives(found, known, None, {})) == {
        "K": ("disk0-p1", False),
        "E": ("disk0-p2", True),
    }


def test_the_system_folder_tells_its_letter(found: Found) -> None:
    assert given(find_drives(found, (), ("C", "disk0-p2"), {})) == {
        "C": ("disk0-p2", False),
        "D": ("disk0-p1", True),
    }
    # Unless the guest says that the letter is another volume's.
    known = devices(C=guests.mbr_device(MIB))
    assert given(find_drives(found, known, ("C", "disk0-p2"), {})) == {
        "C": ("disk0-p1", False),
        "D": ("disk0-p2", True),
    }


def test_by_hand_comes_first(found: Found) -> None:
    known = devices(C=guests.mbr_device(MIB))
    by_hand = {"C": "disk0-p4", "X": "disk0-p3"}
    assert given(find_drives(found, known, None, by_hand)) == {
        "C": ("disk0-p4", True),
        "X": ("disk0-p3", True),
        "D": ("disk0-p1", True),
        "E": ("disk0-p2", True),
    }
    with pytest.raises(UsageError, match="no volume disk0-p7"):
        find_drives(found, known, None, {"D": "disk0-p7"})


def test_letters_run_out(found: Found) -> None:
    known = devices(**dict.fromkeys("DEFGHIJKLMNOPQRSTUVWXYZ", b"CD"))
    assert given(find_drives(found, known, None, {})) == {}


@pytest.mark.requirement("R34")
def test_dynamic_volumes_by_their_guid(found: Found) -> None:
    volumes = list(found.volumes)
    device = replace(volumes[1].device, kind="ldm", partition=None, guid=DYNAMIC_GUID)
    volumes[1] = replace(volumes[1], device=device)
    dynamic = Found(found.contents, tuple(volumes), ())
    # The database of a dynamic disk keeps the bytes that the registry has, read as big-endian.
    known = devices(Q=b"DMIO:ID:" + uuid.UUID(DYNAMIC_GUID).bytes)
    assert given(find_drives(dynamic, known, None, {})) == {
        "Q": ("disk0-p2", False),
        "D": ("disk0-p1", True),
    }
    assert given(find_drives(dynamic, (), None, {}))["E"] == ("disk0-p2", True)


LINKS = {
    ReparseLink(False, (b"a", b"b"), drive="C"): b"drives/C/a/b",
    ReparseLink(False, (), drive="C"): b"drives/C",
    ReparseLink(False, (b"..", b"a", b"..", b".."), drive="C"): b"drives/C",
    ReparseLink(False, (b"a",), drive="Y"): None,
    ReparseLink(False, (b"a",), volume=DYNAMIC_GUID): b"volumes/disk0-p1/a",
    ReparseLink(False, (b"a",), volume=guests.DATA_GUID): None,
    ReparseLink(False, (b"a",)): b"volumes/disk0-p2~2/a",
    ReparseLink(False, (b"server", b"share"), remote=True): None,
    ReparseLink(True, (b"..", b"x")): None,
}


def test_links_to_drives_and_volumes(found: Found) -> None:
    place = guests.mbr_device(MIB)
    known = devices(**{f"\\??\\Volume{{{DYNAMIC_GUID.upper()}}}": place, "C": place})
    drives = find_drives(found, known, None, {})
    links = DriveLinks(drives, {"disk0-p1": "disk0-p1", "disk0-p2": "disk0-p2~2"})
    assert {link: links.path(link, "disk0-p2") for link in LINKS} == LINKS
