"""What works where pyfuse3 is not installed, and what a mount says there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.programs import run

HIDING = """\
import sys
sys.modules["pyfuse3"] = None  # as if it were not installed
from vmount.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("fuse")
    (top / "tree").mkdir()
    (top / "tree/file").write_text("kept\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(top / "tree"), str(top / "e.img"), "4M")
    (top / "mountpoint").mkdir()
    return top / "e.img"


def vmount(image: Path, *words: str) -> subprocess.CompletedProcess[str]:
    state = ["--state-dir", str(image.parent / "state")]
    return subprocess.run(
        [sys.executable, "-c", HIDING, *words, *state],
        cwd=image.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_mount_names_the_packages_to_install_in_one_line(image: Path) -> None:
    done = vmount(image, "mount", str(image), "mountpoint")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("vmount: pyfuse3 is not installed")
    assert "apt install fuse3" in line


@pytest.mark.parametrize(
    "words",
    [
        ["mount", "--help"],
        ["info", "e.img"],
        ["ls", "e.img", "disk0"],
        ["cat", "e.img", "disk0/file"],
        ["find", "e.img", "file"],
        ["diff", "e.img", "e.img"],
        ["cp", "-T", "e.img", "disk0/file", "copy"],
        ["status"],
        ["cleanup"],
        ["completion", "bash"],
    ],
    ids=lambda words: words[0],
)
def test_every_other_command_works_without_it(image: Path, words: list[str]) -> None:
    done = vmount(image, *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
