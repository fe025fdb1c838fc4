"""No job says more than it knows: one contract for all commands that read what is on the disks.

The machine has a volume that cannot be opened, a disk that is missing, a directory and the middle of a file
that cannot be read, and a file that is too large for the scanner.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures import malware, unreadable
from fixtures.guests import make_disk
from fixtures.malware import EICAR
from fixtures.ntfs import mounted
from fixtures.partitions import MIB, blank
from fixtures.programs import run
from fixtures.unreadable import Unreadable
from tests.support.paths import ROOT
from vmount.api import open_disks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.mounts.conftest import Vmount

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def machine(images: Path) -> Unreadable:
    return unreadable.build(images / "unreadable")


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("limited")
    with malware.clamd(folder, "StreamMaxLength 1M", "MaxFileSize 1M") as path:
        yield path


@dataclass(frozen=True)
class Job:
    """A command on the machine, and what of it the command reads."""

    words: tuple[str, ...]
    """VMX, WHOLE, SOCKET and OUT stand for paths, each word that begins so."""
    missing: tuple[str, ...]
    """Attributes of Unreadable."""
    is_stream: bool = True
    """Whether its JSON is an object a line."""
    key: str = "not_scanned"
    has_json: bool = True


PARTS = ("volume", "disk")
JOBS = {
    "scan": Job(
        ("scan", "--socket", "SOCKET", "VMX"),
        (*PARTS, "directory", "file", "large"),
        is_stream=False,
    ),
    "scan by a command": Job(
        ("scan", "--engine", "true", "VMX"), (*PARTS, "directory", "file"), is_stream=False
    ),
    "scan up to a size": Job(
        ("scan", "--engine", "true", "--max-size", "1M", "VMX"),
        (*PARTS, "directory", "file", "large"),
        is_stream=False,
    ),
    "scan one volume": Job(
        ("scan", "--engine", "true", "VMX", "scsi0-0-p1"),
        ("directory", "file"),
        is_stream=False,
    ),
    "scan an unreadable volume": Job(
        ("scan", "--engine", "true", "VMX", "scsi0-1-p1"), ("volume",), is_stream=False
    ),
    "find": Job(("find", "VMX"), (*PARTS, "directory")),
    "diff": Job(("diff", "--checksum", "WHOLE", "VMX"), (*PARTS, "directory", "file")),
    "diff the other way": Job(("diff", "VMX", "WHOLE"), (*PARTS, "directory")),
    "ls -R": Job(("ls", "-R", "VMX"), (*PARTS, "directory")),
    "ls -R of a volume": Job(("ls", "-R", "VMX", "volumes/scsi0-0-p1"), ("directory",)),
    "cp": Job(
        ("cp", "VMX", "volumes", "OUT"), (*PARTS, "directory", "file"), is_stream=False, key="cp"
    ),
    "cp of a pattern": Job(
        ("cp", "VMX", "volumes/*", "OUT"), (*PARTS, "directory", "file"), is_stream=False, key="cp"
    ),
    "cat": Job(
        ("cat", "VMX", "scsi0-0-p1/middle.bin", "scsi0-0-p1/good.txt"), ("file",), has_json=False
    ),
}


def words_of(job: Job, machine: Unreadable, socket: Path, out: Path) -> list[str]:
    meant = {"VMX": machine.vmx, "WHOLE": machine.whole, "SOCKET": socket, "OUT": out}
    return [str(meant.get(word, word)) for word in job.words]


@pytest.mark.parametrize("name", JOBS)
def test_what_could_not_be_read_is_told_and_counted(
    vmount: Vmount, machine: Unreadable, socket: Path, tmp_path: Path, name: str
) -> None:
    job = JOBS[name]
    out = tmp_path / "out"
    out.mkdir()
    done = vmount.run(*words_of(job, machine, socket, out), check=False)
    told = done.stderr.decode()
    assert done.returncode == 3, told
    expected = [getattr(machine, attribute) for attribute in job.missing]
    for path in expected:
        lines = [line for line in told.splitlines() if line.startswith("vmount: not ")]
        assert any(path.removeprefix("volumes/") in line for line in lines), (path, told)
    # What is sound was read all the same, and what is no content is not asked for.
    assert "scsi0-1-p2" not in told
    assert "scsi0-1-p3" not in told
    if name.startswith("cat"):
        assert done.stdout.endswith(b"good\n")
        return
    if job.is_stream and name != "find":
        assert b"/good.txt" not in done.stderr
    summary = told + done.stdout.decode("utf-8", "replace")
    if "disk" in job.missing:
        assert "1 disk, 1 volume" in summary


@pytest.mark.parametrize("name", [name for name, job in JOBS.items() if job.has_json])
def test_json_names_what_could_not_be_read(
    vmount: Vmount, machine: Unreadable, socket: Path, tmp_path: Path, name: str
) -> None:
    job = JOBS[name]
    out = tmp_path / "out"
    out.mkdir()
    command, *rest = words_of(job, machine, socket, out)
    done = vmount.run(command, "--json", *rest, check=False)
    assert done.returncode == 3
    expected = {getattr(machine, attribute) for attribute in job.missing}
    if job.is_stream:
        objects = [json.loads(line) for line in done.stdout.splitlines()]
        found = {item["path"].lstrip("/"): item["kind"] for item in objects if "reason" in item}
    else:
        report: dict[str, Any] = json.loads(done.stdout)
        items = report["not_read" if job.key == "cp" else "not_scanned"]
        found = {item["path"]: item["kind"] for item in items}
        if job.key == "cp":
            for path in (machine.directory, machine.file):
                assert any(path in problem for problem in report["problems"])
            expected -= {machine.directory, machine.file}
    full = {
        path if "/" in path and path.startswith(("v", "d")) else f"volumes/{path}" for path in found
    }
    assert full == expected
    kinds = {machine.disk: "disk", machine.volume: "volume", machine.directory: "directory"}
    for path, kind in found.items():
        assert kind == kinds.get(path, "file")


def test_a_job_on_what_is_sound_is_done(vmount: Vmount, machine: Unreadable) -> None:
    for words in (
        ("scan", "--engine", "true", machine.vmx, machine.good),
        ("find", machine.vmx, "--below", machine.good),
        ("diff", machine.vmx, machine.whole, machine.good),
        ("cat", machine.vmx, machine.good),
    ):
        assert vmount.run(*words).returncode == 0


def test_a_path_on_what_cannot_be_read_says_why(vmount: Vmount, machine: Unreadable) -> None:
    for command in ("ls", "cat"):
        line = vmount.error(command, machine.vmx, "scsi0-1-p1/etc", code=3)
        assert "crypto_LUKS" in line
        line = vmount.error(command, machine.vmx, "scsi0-2-p1/etc", code=3)
        assert "missing.vmdk: No such file" in line
    line = vmount.error("find", machine.vmx, "--below", "scsi0-2-p1", code=3)
    assert "missing.vmdk: No such file" in line


def test_since_scans_again_what_was_not_scanned(
    vmount: Vmount, machine: Unreadable, socket: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    words = ("scan", "--socket", socket, machine.vmx, "--json")
    first = vmount.run(*words, "--report", report, check=False)
    written = json.loads(report.read_text())
    assert set(written["clean"]) == {machine.good}
    assert {item["path"] for item in written["not_scanned"]} == {
        *(machine.volume, machine.disk, machine.directory, machine.file, machine.large)
    }
    again = vmount.run(*words, "--since", report, check=False)
    assert again.returncode == first.returncode == 3
    assert json.loads(again.stdout)["not_scanned"] == written["not_scanned"]
    assert json.loads(again.stdout)["unchanged"] == 1


def test_a_mount_of_it_is_scanned_no_better(
    vmount: Vmount, machine: Unreadable, socket: Path
) -> None:
    with vmount.mounted(machine.vmx) as mountpoint:
        info = json.loads((mountpoint / "info.json").read_text())
        assert {item["path"] for item in info["unread"]} == {machine.volume, machine.disk}
        for folder, engine in (
            (mountpoint, ("--socket", socket)),
            (mountpoint, ("--engine", "true")),
            (mountpoint / "volumes", ("--engine", "true")),
        ):
            done = vmount.run("scan", "--json", *engine, folder, check=False)
            assert done.returncode == 3, done.stderr
            told = json.dumps(json.loads(done.stdout)["not_scanned"])
            for path in (machine.volume, machine.disk, machine.directory, machine.file):
                assert path.removeprefix("volumes/") in told
        vmount.run("volumes", mountpoint, "--dismount", "scsi0-0-p1")
        done = vmount.run("scan", "--engine", "true", mountpoint, check=False)
        assert done.returncode == 3
        assert b"scsi0-0-p1: not mounted" in done.stderr


def test_what_was_found_beats_what_was_not_scanned(
    vmount: Vmount, machine: Unreadable, tmp_path: Path
) -> None:
    scanner = tmp_path / "scanner"
    scanner.write_text('#!/bin/sh\necho "$1: Bad.Thing FOUND"\nexit 1\n')
    scanner.chmod(0o755)
    done = vmount.run("scan", "--engine", scanner, machine.vmx, machine.good, check=False)
    assert done.returncode == 1
    assert f"{machine.good}: Bad.Thing FOUND\n" in done.stdout.decode()
    whole = vmount.run("scan", "--engine", scanner, machine.vmx, check=False)
    assert whole.returncode == 1
    assert b"not scanned: 1 disk, 1 volume" in whole.stdout


def test_paths_of_programs_exist_and_messages_have_the_guests(
    vmount: Vmount, machine: Unreadable, tmp_path: Path
) -> None:
    scanner = tmp_path / "scanner"
    scanner.write_text('#!/bin/sh\n[ -f "$1" ] || exit 0\necho "$1: cannot open" >&2\nexit 9\n')
    scanner.chmod(0o755)
    for path in (machine.good, machine.good.removeprefix("volumes/")):
        done = vmount.run("scan", "--json", "--engine", scanner, machine.vmx, path, check=False)
        (item,) = json.loads(done.stdout)["not_scanned"]
        assert item["path"] == machine.good
        assert item["reason"] == f"scanner: exit code 9: {machine.good}: cannot open"


def test_streams_of_a_mount_and_of_directories_are_scanned(vmount: Vmount, tmp_path: Path) -> None:
    image = blank(tmp_path / "ntfs.img", 8 * MIB)
    run("mkntfs", "-q", "-Q", "-F", str(image))
    with mounted(image, tmp_path, "streams_interface=windows") as top:
        (top / "folder").mkdir()
        (top / "folder:evil").write_bytes(EICAR)
        (top / "file.txt").write_text("text")
        (top / "file.txt:long").write_bytes(bytes(70 << 10) + EICAR)
    with malware.clamd(tmp_path / "clamd") as socket:
        done = vmount.run("scan", "--json", "--socket", socket, image, check=False)
        report = json.loads(done.stdout)
        assert {item["path"] for item in report["found"]} == {
            "volumes/disk0/folder:evil",
            "volumes/disk0/file.txt:long",
        }
        assert report["not_scanned"] == []
        with vmount.mounted(image) as mountpoint:
            done = vmount.run("scan", "--json", "--socket", socket, mountpoint, check=False)
        report = json.loads(done.stdout)
        assert [item["path"] for item in report["found"]] == ["volumes/disk0/folder:evil"]
        (item,) = report["not_scanned"]
        assert item["path"] == "volumes/disk0/file.txt:long"
        assert "64 KiB" in item["reason"]


def test_exclude_narrows_a_scan(vmount: Vmount, machine: Unreadable) -> None:
    words = ("scan", "--json", "--engine", "true", machine.whole)
    done = vmount.run(*words, "--exclude", "*.bin", "--exclude", "/damaged")
    report = json.loads(done.stdout)
    assert (report["scanned"], report["excluded"], report["not_scanned"]) == (1, 3, [])


def test_volumes_without_files_are_nothing_that_is_missed(tmp_path: Path) -> None:
    swap, empty = blank(tmp_path / "swap", 2 * MIB), blank(tmp_path / "empty", 2 * MIB)
    run("mkswap", str(swap))
    noise = blank(tmp_path / "noise", 2 * MIB)
    with noise.open("r+b") as file:
        file.write(os.urandom(MIB))
    disk = make_disk(
        tmp_path / "disk.img",
        "label: dos",
        [(swap, "type=82"), (empty, "type=83"), (noise, "type=83")],
    )
    with open_disks(disk) as disks:
        assert [item.path for item in disks.unread] == ["volumes/disk0-p3"]
        assert disks.unread[0].reason == "no known file system"


def test_an_output_that_takes_nothing_is_no_finding(vmount: Vmount, machine: Unreadable) -> None:
    for engine, code in (("true", 6), ("false", 1)):
        for words in (("scan", "--engine", engine), ("scan", "--json", "--engine", engine)):
            with Path("/dev/full").open("wb") as full:
                done = subprocess.run(
                    vmount.command(*words, machine.vmx, machine.good),
                    stdout=full,
                    stderr=subprocess.PIPE,
                    env=vmount.environment,
                    cwd=ROOT,
                    check=False,
                )
            assert done.returncode == code
            assert b"standard output: No space left" in done.stderr
    scan = ("scan", "--engine", "true", machine.vmx, machine.good)
    done = vmount.run(*scan, "--report", "/proc/report.json", check=False)
    assert done.returncode == 6
    assert b"--report: /proc/report.json" in done.stderr
    # The mount that is made for the program says nothing a second time.
    assert done.stderr.count(b"missing.vmdk") == 1
