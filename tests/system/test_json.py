"""What commands write with --json is what docs/json.schema.json says, errors too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fixtures.programs import run
from tests.support.json_schema import SCHEMA, check
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images that differ, with names that are hard to write."""
    top = tmp_path_factory.mktemp("json")
    tree = top / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/fstab").write_text("/dev/sda9 /gone ext4 defaults 0 0\n")
    (tree / "etc/os-release").write_text('ID=debian\nNAME="Debian"\n')
    (tree / "link").symlink_to("etc")
    (tree / "caf\udce9").write_text("not UTF-8\n")
    for name in ("a.img", "b.img"):
        run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(top / name), "4M")
        (tree / name).write_text("added\n")
    (top / "mnt").mkdir()
    return top


def vmount(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vmount", *words, "--state-dir", str(folder / "state")],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        ("info", ["info", "a.img"], None),
        ("entry", ["ls", "-R", "a.img", "/"], None),
        ("entry", ["find", "a.img"], None),
        ("change", ["diff", "a.img", "b.img"], None),
        ("cp", ["cp", "a.img", "disk0", "disk0/none", "."], 3),
        ("statuses", ["status"], 0),
        ("doctor", ["doctor"], 0),
        ("cleanup", ["cleanup"], 0),
        ("scan", ["scan", "--engine", "test -f {}", "a.img"], None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_output_is_as_the_schema_says(
    folder: Path, name: str, words: Sequence[str], code: int | None
) -> None:
    done = vmount(folder, *words, "--json")
    assert code is None or done.returncode == code, done.stderr
    by_line = name in {"entry", "change"}
    documents = done.stdout.splitlines() if by_line else [done.stdout]
    assert documents[0], done.stderr
    for document in documents:
        value = json.loads(document)
        check("unread" if by_line and "kind" in value else name, value)
    for line in done.stderr.splitlines():
        check("message", json.loads(line))


@pytest.mark.mount
def test_output_of_a_mount_is_as_the_schema_says(folder: Path) -> None:
    mounted = vmount(folder, "mount", "--json", "a.img", "mnt")
    assert mounted.returncode == 0, mounted.stderr
    try:
        check("mount", json.loads(mounted.stdout))
        for line in mounted.stderr.splitlines():
            check("message", json.loads(line))
        check("info", json.loads((folder / "mnt/info.json").read_text()))
        check("status", json.loads((folder / "mnt/.vmount/status.json").read_text()))
        check("status", json.loads(vmount(folder, "status", "--json", "mnt").stdout))
        check("volumes", json.loads(vmount(folder, "volumes", "--json", "mnt").stdout))
    finally:
        vmount(folder, "umount", "--force", "mnt")


@pytest.mark.parametrize(
    ("words", "code", "remedy"),
    [
        (["info", "nothing.img"], 3, ""),
        (["ls", "a.img", "disk0/none"], 3, ""),
        (["info"], 2, "see vmount info --help"),
        (["info", "--cache-size", "x", "a.img"], 2, "see vmount info --help"),
        (["mount", "a.img", "nowhere"], 4, "create the directory first"),
        (["status", "mnt"], 4, "vmount status lists them"),
    ],
)
def test_an_error_is_an_object_with_message_remedy_and_exit_code(
    folder: Path, words: Sequence[str], code: int, remedy: str
) -> None:
    done = vmount(folder, *words, "--json")
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    told: dict[str, Any] = json.loads(line)
    check("message", told)
    assert (told["level"], told["exit_code"], told["remedy"]) == ("error", code, remedy)
    assert told["message"]


def test_the_check_notices_a_key_without_description() -> None:
    with pytest.raises(AssertionError):
        check("mount", {"schema": 1, "mountpoint": "/mnt", "pid": 1, "new": True})
    with pytest.raises(AssertionError):
        check("mount", {"schema": 2, "mountpoint": "/mnt", "pid": 1})


def test_the_page_names_every_form() -> None:
    page = (ROOT / "docs/json.md").read_text()
    missing = [name for name in SCHEMA["$defs"] if f"`{name}`" not in page]
    assert missing == ["attributes"]


def test_a_full_disk_takes_no_log_line_and_prints_no_traceback(folder: Path) -> None:
    done = vmount(folder, "info", "a.img", "--log-level", "debug", "--log-file", "/dev/full")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr


def test_a_full_disk_behind_standard_output_is_one_line(folder: Path) -> None:
    command = [sys.executable, "-m", "vmount", "find", "a.img"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command,
            cwd=folder,
            env={"PATH": "/usr/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line
