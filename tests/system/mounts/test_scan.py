"""`vmount scan`: what is found, what is told of the rest, with clamd, clamscan and other commands."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fixtures import malware
from fixtures.guests import make_disk
from fixtures.malware import EICAR_NAME, OWN_NAME, Infected
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.mounts.conftest import Vmount

STREAM = "carrier.txt:hidden"


@pytest.fixture(scope="module")
def infected(images: Path) -> dict[str, Infected]:
    """By name of the volume as it is shown."""
    built = [malware.build_ext4(images), malware.build_ntfs(images), malware.build_fat(images)]
    return {f"disk0-p{number}": volume for number, volume in enumerate(built, 1)}


@pytest.fixture(scope="module")
def disk(images: Path, infected: dict[str, Infected]) -> Path:
    types = ("type=83", "type=7", "type=6")
    volumes = [volume.image for volume in infected.values()]
    return make_disk(images / "malware.img", "label: dos", list(zip(volumes, types, strict=True)))


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with malware.clamd(tmp_path_factory.mktemp("clamd")) as path:
        yield path


def scanned(vmount: Vmount, *arguments: str | Path, code: int) -> dict[str, Any]:
    done = vmount.run("scan", "--json", *arguments, check=False)
    assert done.returncode == code, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def found_in(report: dict[str, Any]) -> dict[str, str]:
    return {item["path"]: item["signature"] for item in report["found"]}


def expected_of(infected: dict[str, Infected], *, streams: bool = True) -> dict[str, str]:
    return {
        f"volumes/{name}/{path}": signature
        for name, volume in infected.items()
        for path, signature in volume.signatures.items()
        if streams or path != STREAM
    }


def test_clamd_finds_all_of_it(
    vmount: Vmount, disk: Path, infected: dict[str, Infected], socket: Path
) -> None:
    report = scanned(vmount, "--socket", socket, disk, code=1)
    assert found_in(report) == expected_of(infected)
    assert report["not_scanned"] == []
    assert report["same_content"] == 1  # the hard link
    assert report["scanned"] >= sum(len(v.signatures) + len(v.clean) for v in infected.values()) - 1
    assert report["engine"].startswith("ClamAV")


def test_what_a_person_is_told(vmount: Vmount, disk: Path, socket: Path) -> None:
    done = vmount.run("scan", "--socket", socket, disk, "disk0-p3", check=False)
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert lines[0] == f"volumes/disk0-p3/EICAR.COM: {EICAR_NAME} FOUND"
    assert lines[1].startswith("2 contents scanned, ")
    assert lines[1].endswith("1 found")
    clean = vmount.run("scan", "--socket", socket, disk, "disk0-p1/home/notes.txt")
    assert b"1 content scanned, 12.7 KiB" in clean.stdout


@pytest.mark.mount
def test_a_mount_is_scanned_by_passing_descriptors(
    vmount: Vmount, disk: Path, infected: dict[str, Infected], socket: Path
) -> None:
    with vmount.mounted(disk) as mountpoint:
        report = scanned(vmount, "--socket", socket, mountpoint, code=1)
        assert found_in(report) == expected_of(infected)
        assert report["not_scanned"] == []


@pytest.mark.mount
def test_clamscan_and_other_commands(
    vmount: Vmount, disk: Path, infected: dict[str, Infected], tmp_path: Path
) -> None:
    signatures = malware.write_signatures(tmp_path / "signatures")
    script = tmp_path / "scanner"
    script.write_text(f'#!/bin/sh\nexec clamscan --no-summary -i -d {signatures} "$@"\n')
    script.chmod(0o755)
    report = scanned(vmount, "--engine", str(script), disk, code=1)
    expected = expected_of(infected)
    stream = f"volumes/disk0-p2/{STREAM}"
    assert found_in(report).keys() == expected.keys() - {stream}
    assert [item["path"] for item in report["not_scanned"]] == [stream]
    for path, text in found_in(report).items():
        assert text == expected[path]
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho no licence >&2\nexit 7\n")
    failing.chmod(0o755)
    report = scanned(vmount, "--engine", f"{failing} --file={{}}", disk, "disk0-p3", code=3)
    assert {item["reason"] for item in report["not_scanned"]} == {
        "failing: exit code 7: no licence"
    }
    assert len(report["not_scanned"]) == 2
    with vmount.mounted(disk) as mountpoint:
        command: list[str | Path] = ["clamscan", "-r", "-i", "--no-summary", "-d", signatures]
        command.append(mountpoint / "volumes")
        done = subprocess.run(command, capture_output=True, check=False)
        lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
        seen = {
            line.partition(": ")[0].partition("/volumes/")[2] for line in lines if "FOUND" in line
        }
        wanted = {path.removeprefix("volumes/") for path in expected_of(infected, streams=False)}
        assert {path for path in wanted if "\n" not in path} <= seen
        assert {"disk0-p1.raw", "disk0-p2.raw", "disk0-p3.raw"} <= seen  # the block files


def test_since_scans_only_what_has_changed(
    vmount: Vmount, images: Path, socket: Path, tmp_path: Path
) -> None:
    volume = malware.build_ext4(tmp_path)
    report = tmp_path / "report.json"
    first = scanned(vmount, "--socket", socket, "--report", report, volume.image, code=1)
    again = scanned(
        vmount, "--socket", socket, "--since", report, "--report", report, volume.image, code=1
    )
    # What was found is looked at again each time, with all its names.
    assert found_in(again) == found_in(first)
    assert again["unchanged"] == len(volume.clean)
    assert again["scanned"] == len(set(volume.signatures)) - 1
    source = tmp_path / "new"
    source.write_bytes(malware.OWN)
    script = f"rm /home/notes.txt\nwrite {source} /home/notes.txt\n"
    subprocess.run(["debugfs", "-w", "-f", "-", volume.image], input=script, text=True, check=True)
    third = scanned(vmount, "--socket", socket, "--since", report, volume.image, code=1)
    assert found_in(third) == found_in(first) | {"volumes/disk0/home/notes.txt": OWN_NAME}
    assert third["unchanged"] == len(volume.clean) - 1
    line = vmount.error("scan", "--socket", socket, "--since", socket.parent, volume.image, code=2)
    assert "Is a directory" in line
    (tmp_path / "junk").write_text("[]")
    line = vmount.error(
        "scan", "--socket", socket, "--since", tmp_path / "junk", volume.image, code=2
    )
    assert "not a report of vmount scan" in line


def test_what_cannot_be_read_is_told(vmount: Vmount, socket: Path, tmp_path: Path) -> None:
    volume = malware.build_ext4(tmp_path)
    commands = "set_inode_field /home/notes.txt flags 0x800\n"  # encrypted, and no context
    subprocess.run(
        ["debugfs", "-w", "-f", "-", volume.image], input=commands, text=True, check=True
    )
    report = scanned(vmount, "--socket", socket, volume.image, code=1)
    (problem,) = report["not_scanned"]
    assert problem["path"] == "volumes/disk0/home/notes.txt"
    assert "encryption" in problem["reason"]
    clean = scanned(vmount, "--socket", socket, volume.image, "disk0/home/notes.txt", code=3)
    assert (clean["scanned"], len(clean["not_scanned"])) == (0, 1)


def test_limits_of_the_scanner_are_told(
    vmount: Vmount, infected: dict[str, Infected], tmp_path: Path
) -> None:
    image = infected["disk0-p1"].image
    with malware.clamd(tmp_path, "StreamMaxLength 1M") as limited:
        report = scanned(vmount, "--socket", limited, image, code=1)
    (problem,) = report["not_scanned"]
    assert problem["path"] == "volumes/disk0/home/large.bin"
    assert "size limit exceeded" in problem["reason"] or "hung up" in problem["reason"]
    assert "volumes/disk0/home/again.com" in found_in(report)


def test_messages(vmount: Vmount, disk: Path, socket: Path, tmp_path: Path) -> None:
    line = vmount.error("scan", "--socket", tmp_path / "none", disk, code=6)
    assert "no answer from clamd at" in line
    assert "use --engine clamscan" in line
    assert "localhost:1" in vmount.error("scan", "--socket", "localhost:1", disk, code=6)
    assert "not installed" in vmount.error("scan", "--engine", "no-such-scanner", disk, code=2)
    assert "from 1 to 64" in vmount.error("scan", "--connections", "0", disk, code=2)
    report = scanned(vmount, "--socket", socket, disk, "disk0-p1/none", code=3)
    assert report["not_scanned"] == [
        {"kind": "file", "path": "disk0-p1/none", "reason": "No such file or directory"}
    ]
    (tmp_path / "empty.img").write_bytes(bytes(1 << 20))
    line = vmount.error("scan", "--socket", socket, tmp_path / "empty.img", code=3)
    assert "no volume with a file system" in line


def test_a_scanner_that_ends_ends_the_scan(
    vmount: Vmount, infected: dict[str, Infected], tmp_path: Path
) -> None:
    with malware.clamd(tmp_path) as path:
        process = subprocess.Popen(
            vmount.command("scan", "--socket", path, infected["disk0-p1"].image),
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
        )
        process.send_signal(19)
    process.send_signal(18)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 6
    assert b"clamd" in told
