"""What the configuration file says of transports, and where VDDK is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmount.backends.base import BackendError
from vmount.errors import UsageError
from vmount.transports.configuration import read_programs
from vmount.transports.registry import TRANSPORTS, known_transports
from vmount.transports.vddk import LIBRARY_VARIABLE, VddkDisk, find_library


def test_programs(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert read_programs(path) == {}
    path.write_text('[transports.mine]\ncommand = ["serve", "{socket}", "ç"]\n', "utf-8")
    assert read_programs(path) == {"mine": ("serve", "{socket}", "ç")}
    assert known_transports(read_programs(path)) == [*TRANSPORTS, "mine"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("transports = 1", "transports: must be a table"),
        ("[transports]\nmine = 1", "must have the key command and no other key"),
        ("[transports.mine]\ncommand = 'serve'", "must be a list of strings"),
        ("[transports.mine]\ncommand = []", "must be a list of strings"),
        ("[transports.mine]\ncommand = [1]", "must be a list of strings"),
        (
            "[transports.mine]\ncommand = ['x']\nshell = true",
            "must have the key command and no other key",
        ),
        ("[transports.'a:b']\ncommand = ['x']", "invalid name"),
        ("[transports.https]\ncommand = ['x']", "taken by a built-in transport"),
        ("[transports", "config.toml"),
    ],
)
def test_what_is_wrong_with_programs(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_programs(path)


@pytest.mark.requirement("R21")
def test_where_vddk_is(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"VDDK is not installed.*{LIBRARY_VARIABLE}"):
        find_library({LIBRARY_VARIABLE: str(tmp_path)})
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64/libvixDiskLib.so.8.0.2").touch()
    assert find_library({LIBRARY_VARIABLE: str(tmp_path)}) == tmp_path


@pytest.mark.requirement("R19")
def test_a_password_is_not_shown() -> None:
    disk = VddkDisk("h", 443, "u", "s3cret", "AA", "vm-1", None, "[ds] a.vmdk", "nbd")
    assert "s3cret" not in repr(disk)
