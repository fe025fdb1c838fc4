"""The examples of docs/api.md do what the page says."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

from fixtures import guests
from fixtures.ntfs import mounted
from fixtures.partitions import MIB, blank
from fixtures.programs import run

PAGE = Path(__file__).parents[3] / "docs/api.md"
EXAMPLE = re.compile(
    r"^## (.*?)\n.*?^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
EXAMPLES = [found.groups() for found in EXAMPLE.finditer(PAGE.read_text())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("examples")
    for number, disk in enumerate(guests.build_windows(top / "windows")):
        (top / f"pc{number}.img").symlink_to(disk)
    (top / "web01.img").symlink_to(guests.build_linux(top / "linux"))
    run("mkntfs", "-q", "-Q", "-F", str(blank(top / "streams.img", 8 * MIB)))
    with mounted(top / "streams.img", top, "streams_interface=xattr") as volume:
        (volume / "setup.exe").write_bytes(b"MZ")
        zone = b"[ZoneTransfer]\r\nZoneId=3\r\n"
        os.setxattr(volume / "setup.exe", "user.Zone.Identifier", zone)
    return top


def test_there_are_ten() -> None:
    assert len(EXAMPLES) == 10


@pytest.mark.mount
@pytest.mark.parametrize(("title", "code", "printed"), EXAMPLES, ids=[each[0] for each in EXAMPLES])
def test_an_example(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    title: str,
    code: str,
    printed: str | None,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, title, "exec"), {"__name__": "__main__"})
    if printed is not None:
        assert output.getvalue() == printed
    else:
        assert output.getvalue()
