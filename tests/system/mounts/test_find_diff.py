"""`vmount find` beside find(1), and `vmount diff` beside diff(1) and what was changed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import EVERYDAY, ExtFixture, mounted
from fixtures.ext import build as build_ext
from fixtures.ntfs import build_small
from tests.fuzz.images import fat_volume
from vmount.api.globs import compile_glob

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

ROOT = "volumes/disk0/"


@pytest.fixture(scope="module")
def volume(images: Path) -> ExtFixture:
    return build_ext(EVERYDAY[0], images)


def found(vmount: Vmount, *arguments: str | Path) -> set[str]:
    output = vmount.run("find", "--null", *arguments).stdout.decode("utf-8", "surrogateescape")
    return set(output.split("\0")) - {""}


@pytest.mark.mount
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([], []),
        (["*a*"], ["-name", "*a*"]),
        (["[a-m]?*"], ["-name", "[a-m]?*"]),
        (["-i", "*A*"], ["-iname", "*a*"]),
        (["--type", "d"], ["-type", "d"]),
        (["--type", "l"], ["-type", "l"]),
        (["--larger", "100k", "--type", "f"], ["-type", "f", "-size", "+102399c"]),
        (["--smaller", "10", "--type", "f"], ["-type", "f", "-size", "-11c"]),
        (["--smaller", "0", "--type", "f"], ["-type", "f", "-size", "0"]),
        (["--older", "2000-01-01"], ["!", "-newermt", "1999-12-31 23:59:59.999999999"]),
        (["--newer", "2024-01-01"], ["-newermt", "2023-12-31 23:59:59.999999999"]),
    ],
    ids=" ".join,
)
def test_find_finds_what_find_finds(
    vmount: Vmount, volume: ExtFixture, ours: list[str], theirs: list[str]
) -> None:
    with mounted(volume.image, options="ro,noload") as top:
        command: list[str | Path] = ["find", top, "-mindepth", "1", *theirs, "-printf", "%P\\0"]
        environment = os.environ | {"TZ": "UTC", "LC_ALL": "C.UTF-8"}
        listed = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
    expected = set(listed.decode("utf-8", "surrogateescape").split("\0")) - {""}
    assert expected
    # A pattern stands behind the source, options wherever they like.
    assert found(vmount, volume.image, *ours) == {ROOT + path for path in expected}


def test_names_match_as_the_guests_system_has_it(vmount: Vmount, images: Path) -> None:
    image = build_small(images).image
    lower = found(vmount, image, "compressed/text *")
    assert lower
    assert found(vmount, image, "COMPRESSED/TEXT *") == lower
    assert found(vmount, "--match-case", image, "COMPRESSED/TEXT *") == set()
    assert found(vmount, image, "**/TEXT *") >= lower


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.txt", ["a.txt", ".txt"], ["a.txt.b", "a/b.txt"]),
        ("a/*/c", ["a/b/c"], ["a/c", "a/b/b/c"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/b/c"], ["b/c", "a/b"]),
        ("a/**", ["a/", "a/b", "a/b/c"], ["b/a/c"]),
        ("[!a]?", ["bc", "b\n"], ["ac", "b/", "/b"]),
        ("[]]x", ["]x"], ["[x"]),
        ("[a-c]", ["b"], ["d", "-"]),
        ("a[b", ["a[b"], ["ab"]),
        ("[z-a]", ["[z-a]"], ["b"]),
        ("(a|b).", ["(a|b)."], ["ax"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    expression = compile_glob(pattern, ignore_case=False)
    assert [name for name in yes if not expression.fullmatch(name)] == []
    assert [name for name in no if expression.fullmatch(name)] == []


def test_messages_of_find(vmount: Vmount, volume: ExtFixture) -> None:
    assert "invalid size" in vmount.error("find", volume.image, "--larger", "big", code=2)
    assert "invalid date or age" in vmount.error("find", volume.image, "--newer", "soon", code=2)
    assert "nowhere" in vmount.error("find", volume.image, "--below", "disk0/nowhere", code=3)


@pytest.mark.mount
def test_diff_tells_what_was_changed(vmount: Vmount, volume: ExtFixture, tmp_path: Path) -> None:
    changed = Path(shutil.copy(volume.image, tmp_path / "changed.img"))
    with mounted(changed) as top:
        files = sorted(path for path in top.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
        large = [
            path for path in files if path.stat().st_size > 10_000 and path.stat().st_nlink == 1
        ]
        touched, written, silent, gone, moded = large[:5]
        os.utime(touched, ns=(0, 1))
        times = silent.stat()
        for path in (written, silent):
            with path.open("r+b") as file:
                first = file.read(1)
                file.seek(0)
                file.write(bytes([first[0] ^ 1]))
        os.utime(silent, ns=(times.st_atime_ns, times.st_mtime_ns))
        gone.unlink()
        moded.chmod(moded.stat().st_mode ^ 0o100)
        (top / "new").mkdir()
        (top / "new/file").write_text("new")
        shown = {path: f"{ROOT}{path.relative_to(top)}" for path in large[:5]}
        with mounted(volume.image, options="ro,noload") as old:
            done = subprocess.run(
                ["diff", "-rq", "--no-dereference", old, top],
                capture_output=True,
                text=True,
                errors="surrogateescape",
                check=False,
            )
    told = {line for line in done.stdout.splitlines() if " differ" in line or "Only in" in line}
    assert len(told) == 4  # written, silent, gone, new
    expected = {
        f"M {shown[touched]}",
        f"M {shown[written]}",
        f"- {shown[gone]}",
        f"m {shown[moded]}",
        f"+ {ROOT}new",
        f"+ {ROOT}new/file",
    }
    lines = vmount.run("diff", volume.image, changed).stdout.decode("utf-8", "surrogateescape")
    assert set(lines.splitlines()) == expected
    thorough = vmount.run("diff", "--checksum", volume.image, changed).stdout.decode()
    assert set(thorough.splitlines()) == expected - {f"M {shown[touched]}"} | {f"M {shown[silent]}"}
    back = vmount.run("diff", "--json", changed, volume.image, "disk0/new").stdout.splitlines()
    values = [json.loads(line) for line in back]
    assert [(value["change"], value["path"]) for value in values] == [
        ("removed", "volumes/disk0/new"),
        ("removed", "volumes/disk0/new/file"),
    ]
    assert (values[1]["before"]["size"], values[1]["after"]) == (3, None)
    assert vmount.run("diff", volume.image, volume.image).stdout == b""
    assert "nowhere" in vmount.error("diff", changed, volume.image, "disk0/nowhere", code=3)


@pytest.mark.requirement("R22")
def test_a_directory_inside_itself_is_listed_once(vmount: Vmount, tmp_path: Path) -> None:
    image = fat_volume(tmp_path, 16)
    data = bytearray(image.read_bytes())
    parent, child = (data.index(name.ljust(11) + b"\x10") for name in (b"A", b"B"))
    data[child + 26 : child + 28] = data[parent + 26 : parent + 28]
    looped = tmp_path / "looped.img"
    looped.write_bytes(data)
    for arguments in (("diff", looped, image), ("diff", image, looped), ("find", looped)):
        done = vmount.run(*arguments, check=False)
        assert b"the same directory was already listed" in done.stderr
        assert len(done.stdout.splitlines()) < 200
