"""Little metadata that stands for much: it costs the object that has it, within a bound.

What could take memory runs in a process of its own, whose greatest size is measured.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from vmount.parsers.errors import Corrupt, Unsupported
from vmount.parsers.exfat import directory as exfat_directory
from vmount.parsers.exfat.entry import FILE
from vmount.parsers.ntfs.lznt1 import BLOCK, decode_lznt1
from vmount.parsers.ntfs.lzx import WINDOW, decode_lzx
from vmount.parsers.ntfs.xpress import MAX_CHUNK, decode_xpress

SECONDS = 240
"""Far more than any of them takes on a busy machine: a bomb would take hours."""

PEAK = """
import re
from pathlib import Path
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""
# Not getrusage's: that one begins with the size of the process that forked.


def peak(program: str) -> int:
    """Return the most memory in bytes that a program had, beyond that of one which only imports."""
    sizes = []
    for text in (program.split("# begin")[0], program):
        done = subprocess.run(
            [sys.executable, "-c", text + PEAK],
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        sizes.append(int(done.stdout.split()[-1]))
    return sizes[1] - sizes[0]


XFS = """
import struct
from types import SimpleNamespace
from vmount.parsers.runs import MAX_RUNS
from vmount.parsers.xfs.extent import Extents
from vmount.parsers.xfs.mapping import file_runs
# begin
data = bytearray()
for number in range(MAX_RUNS):
    data += struct.pack(">QQ", number << 9, (number * 2 + 1) << 21 | 1)
volume = SimpleNamespace(block_size=4096, offset=lambda block, count: block * 4096)
runs = file_runs(volume, Extents(data), MAX_RUNS * 4096)
assert len(runs) == MAX_RUNS
"""


def test_a_file_of_two_million_extents_takes_what_its_runs_and_extents_do() -> None:
    assert peak(XFS) < 160 << 20


MFT = """
import struct
from vmount.parsers.errors import ParseError
from vmount.parsers.ntfs.boot import BOOT_SECTOR, decode_boot
from vmount.parsers.ntfs.mft import Mft
from vmount.parsers.runs import Run
from vmount.parsers.reader import BytesReader, run_sync
# begin
sector = BOOT_SECTOR.build(
    oem_id=b"NTFS    ", bytes_per_sector=512, sectors_per_cluster=8, total_sectors=1 << 40,
    mft_lcn=4, mirror_lcn=5, record_size_code=-10)
boot = decode_boot(sector)
size = 1 << 62
reader = BytesReader(bytes(1 << 20))
mft = Mft(reader, boot, [Run(0, 1 << 20, 0), Run(1 << 20, size - (1 << 20), None)], size)
found = run_sync(mft.records([0, 5, (1 << 30), mft.count - 1, mft.count]))
assert all(isinstance(record, ParseError) for record in found.values())
"""


def test_an_mft_far_larger_than_its_volume_takes_no_memory() -> None:
    assert peak(MFT) < 32 << 20


MFT_RUNS = """
from vmount.parsers.runs import MAX_RUNS, Run, RunBuilder
# begin
runs = RunBuilder()
shown = runs.so_far()
for number in range(MAX_RUNS):
    runs.add(4096, number % 2 * 8192)
assert len(shown) == MAX_RUNS and shown.end == MAX_RUNS * 4096
"""


def test_runs_that_overlap_without_end_are_counted() -> None:
    """Of $MFT or a file: the same two clusters, two million times."""
    assert peak(MFT_RUNS) < 96 << 20


def test_a_unit_of_lznt1_gives_what_was_asked_for() -> None:
    """Each block of six bytes becomes 4096; a unit has 64 KiB, and could name ten thousand blocks."""
    compressed = b"\x03\xb0\x02a\xfc\x0f"
    assert len(decode_lznt1(compressed * 10_000, 65_536)) == 65_536
    with pytest.raises(Corrupt, match="ends early"):
        decode_lznt1(compressed * 2, 2 * BLOCK + 1)


def test_a_chunk_of_xpress_is_no_longer_than_its_place() -> None:
    with pytest.raises(Corrupt, match="size of an XPRESS chunk"):
        decode_xpress(bytes(300), MAX_CHUNK + 1)


def test_a_chunk_of_lzx_is_no_longer_than_its_window() -> None:
    with pytest.raises(Corrupt):
        decode_lzx(bytes(300), WINDOW + 1)


def test_a_directory_of_exfat_with_too_many_files_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exfat_directory, "MAX_FILES", 0)
    entry = bytes([FILE]) + bytes(31)
    with pytest.raises(Unsupported, match="more than 0 files"):
        exfat_directory.decode_directory(
            entry,
            [],
            None,  # type: ignore[arg-type]
            contiguous=False,
            is_root=False,
        )
