"""What a guest's names may do to a terminal: nothing; and what a program gets of them: each byte."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.ext import mounted
from fixtures.programs import run
from vmount.errors import printable
from vmount.logs import FILE_FORMAT, Formatter
from vmount.tree.info import as_json

if TYPE_CHECKING:
    from tests.system.mounts.conftest import Vmount

NAMES = [
    b"bare \x9b2Jcsi",
    b"utf-8 \xc2\x9b2Jcsi",
    b"escape \x1b]0;title\x07",
    b"latin \xe9t\xe9",
    b"fine \xc3\xa9",
]
SHOWN = [
    rb"bare \x9b2Jcsi",
    rb"utf-8 \x9b2Jcsi",
    rb"escape \x1b]0;title\x07",
    rb"latin \xe9t\xe9",
    b"fine \xc3\xa9",
]
RICHS_OWN = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
"""Commands of the progress bar: colours, the cursor."""


@pytest.fixture(scope="module")
def image(images: Path) -> Path:
    """A volume with names that steer a terminal, and files under them that cannot be read."""
    image = images / "names.img"
    run("mke2fs", "-q", "-F", "-t", "ext4", str(image), "8M")
    with mounted(image) as top:
        for name in NAMES:
            folder = os.fsencode(top) + b"/" + name
            os.mkdir(folder)
            with open(folder + b"/" + name, "wb") as file:
                file.write(b"content")
            os.symlink(name, os.fsencode(top) + b"/link to " + name)
    return image


def on_terminal(vmount: Vmount, *arguments: str | Path) -> bytes:
    """Return what a command writes to a terminal."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        vmount.command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: nobody has the other end any more
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    process.wait()
    return written


def is_harmless(written: bytes) -> bool:
    """Say whether a terminal shows what was written, and obeys none of it."""
    text = RICHS_OWN.sub(b"", written).decode().replace("\r", "").replace("\n", "")
    return text.replace("\0", "").isprintable()


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "@", "disk0"),
        ("ls", "-l", "@", "disk0"),
        ("ls", "-R", "@", "disk0"),
        ("ls", "--json", "@", "disk0"),
        ("find", "@"),
        ("find", "-l", "@"),
        ("find", "-0", "@"),
        ("find", "--json", "@"),
        ("diff", "@", "other"),
        ("diff", "--json", "@", "other"),
    ],
)
def test_listings_on_a_terminal(
    vmount: Vmount, image: Path, images: Path, words: tuple[str, ...]
) -> None:
    other = images / "other.img"
    if not other.exists():
        run("mke2fs", "-q", "-F", "-t", "ext4", str(other), "8M")
    given = [{"@": image, "other": other}.get(word, word) for word in words]
    written = on_terminal(vmount, *given)
    assert is_harmless(written)
    if "--json" not in words:
        assert all(name in written for name in SHOWN)
    piped = vmount.run(*given, check=False).stdout
    if "--json" not in words:
        assert all(name in piped for name in NAMES)


def test_messages_and_progress(vmount: Vmount, image: Path, tmp_path: Path) -> None:
    for name in NAMES:
        path = os.fsdecode(name)
        for words in (
            ("cat", image, f"disk0/{path}"),
            ("cp", image, f"disk0/no {path}", tmp_path),
            ("ls", image, f"disk0/no {path}"),
            ("cp", image, f"disk0/{path}", tmp_path),
            ("info", tmp_path / path),
            ("find", image, "--below", f"no {path}"),
        ):
            assert is_harmless(on_terminal(vmount, *words)), words
            told = vmount.run(*words, check=False).stderr
            assert is_harmless(told), words
    assert is_harmless(on_terminal(vmount, "cp", image, "disk0", tmp_path / "all"))
    names = {path for path in os.listdir(os.fsencode(tmp_path / "all")) if b"link" not in path}
    assert names == {*NAMES, b"lost+found"}


@pytest.mark.mount
def test_findings(vmount: Vmount, image: Path, tmp_path: Path) -> None:
    scanner = tmp_path / "scanner"
    scanner.write_text(
        '#!/bin/sh\nfor file; do echo "$file: Evil FOUND"; cat "$file" >&2; done; exit 1\n'
    )
    scanner.chmod(0o755)
    written = on_terminal(vmount, "scan", "--engine", scanner, image)
    assert is_harmless(written)
    assert all(name in written for name in SHOWN)
    piped = vmount.run("scan", "--engine", scanner, image, check=False).stdout
    assert NAMES[0] in piped
    assert NAMES[3] in piped
    assert b"\x1b" not in piped


def test_log_lines_and_json() -> None:
    name = os.fsdecode(b"\n".join(NAMES))
    try:
        raise ValueError(name)
    except ValueError as error:
        record = logging.LogRecord(
            "vmount", logging.ERROR, "", 1, "%s", (name,), (ValueError, error, None)
        )
    for line in Formatter(FILE_FORMAT).format(record).split("\n"):
        assert line.isprintable()
    for text in (name, "\x7f\x85\x9b"):
        assert as_json({"name": text}, indent=None).rstrip("\n").isprintable()


def test_bytes_that_are_no_utf8_are_told_from_letters() -> None:
    assert printable(os.fsdecode(b"\x9b\xff\xc3\xa9")) == r"\x9b\xffé"
    assert printable(os.fsdecode(b"\x9b\n"), keep_bytes=True) == "\udc9b\\n"
