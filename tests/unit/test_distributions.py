"""What the source distribution and the wheel hold. They are built by the project's own build backend."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

import vmount
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BUILD = """\
import os, sys
os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
from hatchling.build import build_sdist, build_wheel
build_sdist(sys.argv[1])
build_wheel(sys.argv[1])
"""

KINDS = {".py", ".pyi", ".typed"}
MODULES = {
    str(path.relative_to(ROOT)) for path in (ROOT / "vmount").rglob("*") if path.suffix in KINDS
} | {
    f"vmount/{path.relative_to(ROOT)}"
    for path in (ROOT / "parsers").rglob("*")
    if path.suffix in KINDS
}

SHARED = {
    "share/bash-completion/completions/vmount",
    "share/doc/vmount/examples/61-vmount.rules",
    "share/doc/vmount/examples/vmount@.service",
    "share/man/man1/vmount.1",
    "share/zsh/site-functions/_vmount",
}


def build(folder: Path) -> Path:
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("first"))


def test_the_version_is_in_one_place(built: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert {path.name for path in built.iterdir()} == {
        f"vmount-{vmount.__version__}.tar.gz",
        f"vmount-{vmount.__version__}-py3-none-any.whl",
    }


def test_the_changelog_begins_with_the_version() -> None:
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")
    ]
    assert headings[0].startswith(f"## [{vmount.__version__}] - ")


def test_the_source_distribution_is_whole(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        names = {member.name.partition("/")[2] for member in members if member.isfile()}
    assert {member.name for member in members if member.issym() or member.islnk()} == set()
    assert names >= MODULES
    assert names >= {
        "LICENSE",
        "README.md",
        "constraints.txt",
        "contrib/61-vmount.rules",
        "docs/vmount.1",
        "docs/vmount@.service",
        "packaging/dist",
        "packaging/vmount.spec",
        "pyproject.toml",
    }


def test_the_wheel_is_whole(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        metadata = f"vmount-{vmount.__version__}"
        points = archive.read(f"{metadata}.dist-info/entry_points.txt").decode()
    assert {name for name in names if name.startswith("vmount/")} == MODULES
    assert {name.partition(".data/data/")[2] for name in names if ".data/" in name} == SHARED
    assert f"{metadata}.dist-info/licenses/LICENSE" in names
    assert "mount.fuse.vmount = " in points


def test_a_second_build_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    first, second = (
        {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        for folder in (built, build(tmp_path))
    )
    assert first == second
