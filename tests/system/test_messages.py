"""What the commands say of wrong and surprising arguments: one line, on standard error, with its exit code."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from fixtures.programs import run
from vmount.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CASES: list[tuple[str, int, str]] = [
    ("info", 2, "required: SOURCE; see vmount info --help"),
    ("info @", 3, "the name of a source is empty; SOURCE must be a .vmx"),
    ("info raw:", 3, "the name of a source is empty; SOURCE must be a .vmx"),
    ("info foo://bar", 3, "foo://bar: unsupported address; SOURCE must be a .vmx"),
    ("info folder", 3, "folder: Is a directory; SOURCE must be a .vmx"),
    ("info raw:folder", 3, "folder: Is a directory; SOURCE must be a .vmx"),
    ("info empty.img", 3, "empty.img: is empty"),
    ("info nothing", 3, "nothing: No such file or directory, and no VM can be searched for"),
    ("info nothing", 3, "no vCenter or ESXi host given; use --vcenter HOST"),
    ("info nbd://", 3, "nbd://: no host: write nbd://HOST/export"),
    ("info nbd://h:99999/x", 3, "Port out of range"),
    ("info nbd://127.0.0.1:1/", 3, "nbd://127.0.0.1:1/: cannot connect"),
    ("ls nbd://127.0.0.1:1/", 3, "nbd://127.0.0.1:1/: cannot connect"),
    ("info --cache-size -1 e.img", 2, "invalid size '-1' (examples: 512M, 2G)"),
    ("info --cache-size 0 e.img", 2, "invalid size '0'"),
    ("info --timeout nan e.img", 2, "invalid number of seconds 'nan'"),
    (
        "info --transport bogus e.img",
        2,
        "--transport bogus: unknown: bogus; known transports: file:",
    ),
    ("info --transport :: e.img", 2, "--transport ::: is empty; known transports: file:"),
    ("mount --drive CC=x e.img folder", 2, "(expected D=VOLUME); see vmount mount --help"),
    ("mount e.img nothing", 4, "nothing: No such file or directory; create the directory first"),
    ("mount e.img empty.img", 4, "empty.img: not a directory"),
    ("mount -o bogus e.img folder", 2, "-o bogus: unknown option"),
    ("e.img", 2, "e.img: unknown command, or a SOURCE without a MOUNTPOINT"),
    ("x" * 300, 2, "xxx: unknown command, or a SOURCE without a MOUNTPOINT"),
    ("umount folder", 4, "folder: not a mount of vmount; vmount status lists them"),
    ("volumes folder", 4, "folder: not a mount of vmount"),
    ("status folder", 4, "folder: not a mount of vmount"),
    ("ls e.img disk0/file/below", 3, "disk0/file/below: Not a directory"),
    ("cat e.img disk0/lost+found", 3, "disk0/lost+found: Is a directory"),
    ("cat e.img disk0/none", 3, "disk0/none: No such file or directory"),
    ("cp e.img folder", 2, "e.img: no PATH given; see vmount cp --help"),
    ("cp e.img @ folder", 2, "an empty PATH: it gives the copy no name"),
    ("cp e.img disk0/zz* folder", 3, "not copied: disk0/zz*: No such file or directory"),
    ("cp e.img disk0/file missing/x", 2, "missing: no such directory; create it first"),
    ("cp e.img disk0/file empty.img/", 2, "empty.img/: not a directory"),
    ("cp e.img disk0 empty.img", 3, "not copied: volumes/disk0: empty.img: File exists"),
    ("cp e.img disk0/file /proc/x", 3, "not copied: volumes/disk0/file: /proc/x: No such file"),
    ("find e.img --larger x", 2, "invalid size 'x'"),
    (
        "find e.img --newer 2026-99-99",
        2,
        "invalid date or age '2026-99-99' (examples: 2026-11-01, 7d)",
    ),
    ("find e.img --below none", 3, "none: No such file or directory"),
    ("diff e.img e.img none", 3, "none: No such file or directory"),
    ("scan", 2, "required: SOURCE; see vmount scan --help"),
    ("scan e.img --engine @", 2, "--engine: no command"),
    ('scan e.img --engine a"b', 2, '--engine a"b: no closing quotation'),
    ("scan e.img --report missing/r.json", 2, "--report missing/r.json: the folder does not exist"),
    ("scan e.img --since nothing", 2, "nothing: No such file or directory"),
    ("vms", 2, "vmount: no vCenter or ESXi host given; use --vcenter HOST"),
    ("mount --owner you e.img folder", 2, "invalid choice: 'you' (choose from"),
    ("cp --owner you e.img disk0 folder", 2, "invalid choice: 'you' (choose from"),
    ("info --lock maybe e.img", 2, "invalid choice: 'maybe' (choose from"),
    ("mount -o rw e.img folder", 2, "-o rw: vmount mounts read-only; use -o ro, or leave it out"),
    ("mount -o uid=me e.img folder", 2, "invalid number 'me' (example: 1000)"),
    ("mount -o umask=9 e.img folder", 2, "invalid umask '9' (examples: 022, 077)"),
    (
        "cp --resume e.img disk0 folder",
        2,
        "folder already exists and does not contain disk0; use -T",
    ),
    ("status --watch --interval 0", 2, "invalid number of seconds '0'"),
    ("vms --vcenter vc", 2, "no user name for vc:443; use --user, GOVC_USERNAME or a profile"),
    ("completion ksh", 2, "invalid choice: 'ksh'"),
    ("info --bogus\udcff\n e.img", 2, "unrecognized arguments: --bogus\\xff\\n"),
]


SAME_CODES: list[tuple[int, str, list[str]]] = [
    (3, "a source that does not exist", ["info n.vmx", "ls n.vmx", "cat n.vmx x", "find n.vmx"]),
    (3, "a source that does not exist", ["cp n.vmx x folder", "diff n.vmx e.img", "scan n.vmx"]),
    (3, "a source that is empty", ["info empty.img", "ls empty.img", "mount empty.img folder"]),
    (3, "a path that does not exist", ["ls e.img disk0/n", "cat e.img disk0/n"]),
    (3, "a path that does not exist", ["cp e.img disk0/n folder", "find e.img --below disk0/n"]),
    (3, "a path that does not exist", ["diff e.img e.img disk0/n"]),
    (3, "a server without an answer", ["info nbd://127.0.0.1:1/", "cat nbd://127.0.0.1:1/ x"]),
    (4, "a directory that is no mount", ["status folder", "umount folder", "volumes folder"]),
    (2, "an option that does not exist", ["ls --none e.img", "cp --none e.img x y", "umount -x a"]),
]
"""Exit codes by the failure: whichever command meets it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good image, an empty file and a directory."""
    top = tmp_path_factory.mktemp("messages")
    (top / "tree").mkdir()
    (top / "tree/file").write_text("kept\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(top / "tree"), str(top / "e.img"), "4M")
    shutil.rmtree(top / "tree")
    (top / "empty.img").touch()
    (top / "folder").mkdir()
    return top


@pytest.fixture(autouse=True)
def kept_handler() -> Iterator[None]:
    """Put back what the command line does with a signal."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(("line", "code", "words"), CASES)
def test_one_line_says_what_is_wrong(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    line: str,
    code: int,
    words: str,
) -> None:
    """In `line`, @ stands for an empty word."""
    monkeypatch.chdir(folder)
    for name in ("GOVC_URL", "VMOUNT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "no-configuration"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    arguments = ["" if word == "@" else word for word in line.split(" ")]
    try:
        done = main(arguments)
    except SystemExit as end:  # argparse's way
        assert isinstance(end.code, int)
        done = end.code
    told = capfdbinary.readouterr().err.decode("utf-8", "surrogateescape")
    assert done == code, told
    assert words in told
    assert told.startswith("vmount")
    assert told.count("\n") == 1
    assert (folder / "empty.img").stat().st_size == 0


@pytest.mark.parametrize(("code", "failure", "lines"), SAME_CODES)
def test_the_same_failure_has_the_same_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, failure: str, lines: list[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GOVC_URL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "no-configuration"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    codes = {}
    for line in lines:
        try:
            codes[line] = main(line.split())
        except SystemExit as end:
            assert isinstance(end.code, int)
            codes[line] = end.code
    assert codes == dict.fromkeys(lines, code), failure
