"""Volumes that were not dismounted, as ntfs-3g.probe sees them too."""

from __future__ import annotations

import re
import struct
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fixtures.ntfs import mounted
from fixtures.wof import STREAMS, make_volume
from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs import open_ntfs
from vmount.parsers.ntfs.logfile import (
    NO_CLIENT,
    RESTART_AREA,
    RESTART_PAGE,
    VOLUME_IS_CLEAN,
    decode_restart_page,
    latest_restart,
)
from vmount.parsers.ntfs.record import RECORD
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

CLEAN, HIBERNATED, UNCLEAN = 0, 14, 15
"""Exit codes of ntfs-3g.probe."""

UNUSED = b"\xff" * 4096


def restart_page(
    lsn: int = 1000,
    in_use: int = 0,
    flags: int = 0,
    version: tuple[int, int] = (1, 1),
    size: int = 4096,
    magic: bytes = b"RSTR",
) -> bytes:
    """Return a restart page with its fix-ups done."""
    count = size // 512 + 1
    area = 0x30 if size == 4096 else -(-(0x1E + 2 * count) // 8) * 8
    page = bytearray(size)
    page[: RESTART_PAGE.size] = RESTART_PAGE.build(
        magic=magic,
        array_offset=0x1E,
        array_count=count,
        system_page_size=size,
        log_page_size=4096,
        area_offset=area,
        minor=version[1],
        major=version[0],
    )
    page[area : area + RESTART_AREA.size] = RESTART_AREA.build(
        current_lsn=lsn,
        clients=1,
        client_free_list=NO_CLIENT if in_use != NO_CLIENT else 0,
        client_in_use_list=in_use,
        flags=flags,
    )
    # What follows matters to ntfs-3g only: it wants a client named NTFS.
    rest = struct.pack("<IHHQIHHI", 45, 0xE0, 0x40, 2 << 20, 0, 0x30, 0x40, 1)
    page[area + 16 : area + 16 + len(rest)] = rest
    client = struct.pack("<QQHHHHHHI", 0, 0, NO_CLIENT, NO_CLIENT, 0, 0, 0, 0, 8)
    client += "NTFS".encode("utf-16-le")
    page[area + 0x40 : area + 0x40 + len(client)] = client
    page[0x1E:0x20] = b"\x07\x00"
    for index in range(1, count):
        end = index * 512
        page[0x1E + 2 * index : 0x20 + 2 * index] = page[end - 2 : end]
        page[end - 2 : end] = b"\x07\x00"
    return bytes(page)


class Volume(NamedTuple):
    image: Path
    log: int
    """Where $LogFile begins."""


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    image = make_volume(tmp_path / "volume.img", 16 << 20)
    command = ["ntfsinfo", "-f", "-v", "-i", "2", str(image)]
    report = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    (lcn,) = re.findall(r"VCN: 0x0 LCN: (0x[0-9a-f]+)", report) or re.findall(
        r"\n\s+0x0\s+(0x[0-9a-f]+)\s+0x", report
    )
    return Volume(image, int(lcn, 16) * 4096)


def patched(volume: Volume, log: bytes) -> bytes:
    data = bytearray(volume.image.read_bytes())
    assert data[volume.log : volume.log + len(log)] == b"\xff" * len(log)
    data[volume.log : volume.log + len(log)] = log
    volume.image.write_bytes(data)
    return bytes(data)


def probe(image: Path) -> int:
    command = ["ntfs-3g.probe", "--readwrite", str(image)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def warnings(data: bytes) -> tuple[str, ...]:
    return run_sync(open_ntfs(BytesReader(data))).info.warnings


@pytest.mark.parametrize(
    ("log", "verdict", "reason"),
    [
        (b"", CLEAN, ""),
        (restart_page(in_use=NO_CLIENT) * 2, CLEAN, ""),
        (restart_page(flags=VOLUME_IS_CLEAN) * 2, CLEAN, ""),
        (restart_page() * 2, UNCLEAN, "its log is in use"),
        (restart_page(2000) + restart_page(1000, NO_CLIENT), UNCLEAN, "its log is in use"),
        (restart_page(1000) + restart_page(2000, NO_CLIENT), CLEAN, ""),
        (restart_page(2000, NO_CLIENT) + restart_page(1000), CLEAN, ""),
        (restart_page(version=(2, 0)) * 2, HIBERNATED, "fast start"),
    ],
)
def test_the_log_says_whether_it_was_closed(
    volume: Volume, log: bytes, verdict: int, reason: str
) -> None:
    data = patched(volume, log)
    assert probe(volume.image) == verdict
    found = warnings(data)
    if verdict == CLEAN:
        assert found == ()
    else:
        (warning,) = found
        assert reason in warning
        assert warning.startswith("the volume is dirty (")
        assert warning.endswith("): the last changes may be missing")


@pytest.mark.parametrize("size", [8192, 65536])
def test_pages_of_other_processors(volume: Volume, size: int) -> None:
    data = patched(volume, restart_page(1, NO_CLIENT, size=size) + restart_page(2, size=size))
    assert "its log is in use" in warnings(data)[0]


def test_a_torn_page_leaves_the_other(volume: Volume) -> None:
    torn = bytearray(restart_page(2000))
    torn[1022:1024] = b"??"
    data = patched(volume, bytes(torn) + restart_page(1000, NO_CLIENT))
    assert warnings(data) == ()
    with pytest.raises(Corrupt, match="torn"):
        decode_restart_page(bytes(torn))


@pytest.mark.parametrize("log", [bytes(8192), b"RSTR" + bytes(8188), b"CHKD" + b"\xee" * 8188])
def test_a_damaged_log_is_a_reason(volume: Volume, log: bytes) -> None:
    (warning,) = warnings(patched(volume, log))
    assert "its log is damaged" in warning


def test_checked_pages() -> None:
    page = latest_restart(restart_page(flags=VOLUME_IS_CLEAN, magic=b"CHKD") + UNUSED)
    assert page is not None
    assert page.closed
    assert page.version == (1, 1)
    assert latest_restart(UNUSED * 2) is None


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        (b"hibr", HIBERNATED),
        (b"HIBR", HIBERNATED),
        (bytes(4), CLEAN),
        (b"wake", CLEAN),
        (b"WAKE", CLEAN),
    ],
)
@pytest.mark.parametrize("name", ["hiberfil.sys", "HIBERFIL.SYS"])
def test_hibernation(volume: Volume, tmp_path: Path, head: bytes, verdict: int, name: str) -> None:
    with mounted(volume.image, tmp_path, STREAMS) as top:
        (top / name).write_bytes(head + b"\1" * 8000)
    if name.islower():
        assert probe(volume.image) == verdict
    found = warnings(volume.image.read_bytes())
    assert bool(found) == (verdict == HIBERNATED)
    assert all("hibernated" in text for text in found)


def test_all_reasons_are_one_sentence(volume: Volume, tmp_path: Path) -> None:
    with mounted(volume.image, tmp_path, STREAMS) as top:
        (top / "hiberfil.sys").write_bytes(b"HIBR" * 2000)
    data = bytearray(patched(volume, restart_page() * 2))
    boot_record = data.index(b"FILE")
    record = boot_record + 3 * 1024
    assert data[record + RECORD.offset("flags")] == 1
    info = data.index(struct.pack("<BBH", 3, 1, 0), record, record + 1024)
    data[info + 2] = 1
    (warning,) = warnings(bytes(data))
    assert warning == (
        "the volume is dirty (its dirty flag is set; its log is in use; Windows is hibernated, or was shut"
        " down for a fast start): the last changes may be missing"
    )
