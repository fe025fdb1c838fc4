"""Distributions that tell what they are in other ways, and machines with several systems."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from fixtures import guests
from fixtures.programs import run
from vmount.api import open_disks
from vmount.guest.linux import parse_os_release

OTHER_UUID = "0a1b2c3d-0000-4000-8000-0000000000ff"


def guest_of(*paths: Path) -> Any:
    with open_disks(*paths) as disks:
        return disks.info()["guest"]


def volume(folder: Path, files: dict[str, bytes], uuid: str = guests.ROOT_UUID) -> Path:
    tree = folder / "tree"
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    image = guests.make_ext4(folder / f"{uuid[-2:]}.img", uuid, "", tree)
    shutil.rmtree(tree)
    return image


@pytest.mark.parametrize(
    ("files", "name", "version", "bits"),
    [
        ({"etc/os-release": b"ID=x\n"}, "Linux", "", None),
        ({"usr/lib/os-release": b"NAME=X\n", "etc/passwd": b""}, "X", "", None),
        (
            {"etc/redhat-release": b"CentOS release 6.10 (Final)\n", "sbin/init": b"\x7fELF\1\1"},
            "CentOS release 6.10 (Final)",
            "6.10",
            32,
        ),
        (
            {"etc/debian_version": b"4.0\n", "bin/sh": b"\x7fELF\2\1"},
            "Debian GNU/Linux 4.0",
            "4.0",
            64,
        ),
        ({"etc/fstab": b"", "bin/sh": b"#!/bin/false"}, "Linux", "", None),
        ({"etc/fstab": b"\xff\0\n\\777 / x\n" * 9}, "Linux", "", None),
    ],
)
def test_what_a_system_calls_itself(
    tmp_path: Path, files: dict[str, bytes], name: str, version: str, bits: int | None
) -> None:
    guest = guest_of(volume(tmp_path, files))
    assert (guest["name"], guest["version"], guest["bits"]) == (name, version, bits)


@pytest.mark.parametrize("files", [{}, {"etc/passwd": b""}, {"backup/etc/os-release": b"NAME=X"}])
def test_volumes_without_a_system(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "tree").mkdir()
    assert guest_of(volume(tmp_path, files)) is None


def test_a_usr_of_its_own_holds_what_the_root_links_to(tmp_path: Path) -> None:
    usr = volume(tmp_path, {"lib/os-release": b"NAME=Split\n"}, OTHER_UUID)
    fstab = f"UUID={OTHER_UUID} /usr ext4\n".encode()
    root = volume(tmp_path, {"etc/fstab": fstab, "usr/lib/os-release": b"NAME=Covered\n"})
    assert guest_of(root, usr)["name"] == "Split"
    assert guest_of(usr, root)["volume"] == "disk1"
    assert guest_of(root)["name"] == "Covered"


def test_several_systems_are_listed_in_the_order_of_their_volumes(tmp_path: Path) -> None:
    one = volume(tmp_path, {"etc/os-release": b"NAME=One\n"})
    two = volume(tmp_path, {"etc/os-release": b"NAME=Two\n"}, OTHER_UUID)
    guest = guest_of(one, two)
    assert [guest["name"], *(each["name"] for each in guest["others"])] == ["One", "Two"]
    assert guest_of(two, one)["name"] == "Two"


def test_hostile_texts_are_bounded_and_fit_for_a_terminal(tmp_path: Path) -> None:
    winding = b"/a/.." * 800
    lines = [b"LABEL=x %s ext4" % winding] * 600 + [b"LABEL=x /\\033[2J ext4"] * 600
    release = b'PRETTY_NAME="\x1b[2Jhidden"\n'
    files = {"etc/os-release": release, "etc/fstab": b"\n".join(lines), "a/b": b""}
    root = volume(tmp_path, files)
    relabelled = tmp_path / "x.img"
    shutil.copy(volume(tmp_path, {"file": b""}, OTHER_UUID), relabelled)
    run("e2label", str(relabelled), "x")
    with open_disks(root, relabelled) as disks:
        assert len(disks.warnings) <= 51
        assert all(text.isprintable() and len(text) < 600 for text in disks.warnings)


def test_lines_of_os_release_that_are_none() -> None:
    assert parse_os_release(b"A='it'\nB=\"open\n\xff=x\nalone\n#C=1\nD=\n") == {
        "A": "it",
        "B": '"open',
        "\ufffd": "x",
        "D": "",
    }
