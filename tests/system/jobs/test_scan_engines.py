"""What is made of what ClamAV says, and of its limits: nothing that it has not scanned is called clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures import malware
from vmount.errors import ScannerError
from vmount.jobs.scan.clamd import Clamd, ClamdAddress, clamd_address, largest_of
from vmount.jobs.scan.engine import MOST, clamav_verdict, default_largest
from vmount.jobs.scan.files_to_scan import Selection
from vmount.jobs.scan.programs import Clamscan, Programs
from vmount.state import StateDir

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "signature", "problem"),
    [
        ("OK", None, None),
        ("Win.Test.EICAR_HDB-1 FOUND", "Win.Test.EICAR_HDB-1", None),
        (
            "Heuristics.Limits.Exceeded.MaxFileSize FOUND",
            None,
            "clamd: scanned in part: it exceeds MaxFileSize",
        ),
        (
            "Heuristics.Limits.Exceeded FOUND",
            None,
            "clamd: scanned in part: it exceeds a limit",
        ),
        ("Can't read file ERROR", None, "clamd: Can't read file"),
        ("Empty file", None, "clamd: Empty file"),
        ("Excluded", None, "clamd: Excluded"),
        ("Symbolic link", None, "clamd: Symbolic link"),
    ],
)
def test_only_ok_is_clean(text: str, signature: str | None, problem: str | None) -> None:
    assert clamav_verdict("clamd", text) == (signature, problem)


@pytest.mark.parametrize(
    ("settings", "version", "largest"),
    [
        ({}, "ClamAV 1.4.3/27000/Mon", 100 * MIB),
        ({}, "ClamAV 0.103.9/27000/Mon", 25 * MIB),
        ({}, "something else", 100 * MIB),
        ({"maxfilesize": "10M"}, "ClamAV 1.0.7", 10 * MIB),
        ({"streammaxlength": "5M", "maxfilesize": "10M"}, "ClamAV 1.0.7", 5 * MIB),
        ({"maxfilesize": "0", "streammaxlength": "3G"}, "ClamAV 1.0.7", 400 * MIB),
        ({"maxfilesize": "0", "streammaxlength": "0", "maxscansize": "0"}, "ClamAV 1.0", MOST),
    ],
)
def test_the_largest_file_that_clamd_scans(
    settings: dict[str, str], version: str, largest: int
) -> None:
    assert largest_of(settings, version) == largest


def test_limits_of_this_machines_clamd_are_not_taken_for_anothers() -> None:
    assert clamd_address("elsewhere:3310") == ClamdAddress(("elsewhere", 3310))
    assert not Clamd(ClamdAddress("/run/other")).is_limit_known
    assert Clamd(ClamdAddress("/run/other", {})).is_limit_known
    assert Clamd(ClamdAddress("/run/other"), largest=2 * MIB).largest == 2 * MIB
    assert default_largest("") == 100 * MIB


def test_clamscan_says_what_it_has_not_scanned(tmp_path: Path) -> None:
    signatures = malware.write_signatures(tmp_path / "signatures")
    bad, large, empty = (tmp_path / name for name in ("bad: 1.com", "large", "empty"))
    odd, gone = tmp_path / "odd\nname", tmp_path / "gone"
    bad.write_bytes(malware.EICAR)
    large.write_bytes(bytes(2 * MIB) + malware.OWN)
    empty.touch()
    odd.touch()
    programs = Programs(StateDir(tmp_path / "state"))
    engine = Clamscan(programs, ["-d", str(signatures)], largest=MIB)
    paths = [str(path) for path in (bad, large, empty, odd, gone)]
    verdicts = dict(engine.scan_paths(paths))
    assert verdicts[str(bad)].signature == malware.EICAR_NAME
    assert verdicts[str(empty)] == (None, None)
    assert "exceeds MaxFileSize" in str(verdicts[str(large)].problem)
    assert "line break" in str(verdicts[str(odd)].problem)
    assert verdicts[str(gone)].problem
    assert [path for path, _ in engine.scan_paths([str(odd)])] == [str(odd)]
    raised = Clamscan(programs, ["-d", str(signatures)], largest=10 * MIB)
    assert dict(raised.scan_paths([str(large)]))[str(large)].signature == malware.OWN_NAME
    with pytest.raises(ScannerError, match="clamscan"):
        list(Clamscan(programs, ["-d", str(tmp_path / "nothing")]).scan_paths([str(bad)]))


@pytest.mark.parametrize(
    ("pattern", "path", "ignore_case", "left_out"),
    [
        ("*.vhdx", "volumes/disk0-p1/a/b.vhdx", False, True),
        ("*.vhdx", "volumes/disk0-p1/a/b.VHDX", False, False),
        ("*.vhdx", "volumes/disk0-p1/a/b.VHDX", True, True),
        ("WinSxS", "volumes/disk0-p1/Windows/WinSxS/x/y.dll", False, True),
        ("Windows/WinSxS", "volumes/disk0-p1/Windows/WinSxS/x/y.dll", False, True),
        ("/Windows", "volumes/disk0-p1/Windows/notepad.exe", False, True),
        ("/Windows", "volumes/disk0-p1/old/Windows/notepad.exe", False, False),
        ("**/cache", "disk0-p1/home/ann/cache/x", False, True),
        ("*", "volumes/disk0-p1", False, False),
    ],
)
def test_what_is_excluded(pattern: str, path: str, ignore_case: bool, left_out: bool) -> None:
    assert Selection((pattern,)).leaves_out(path, ignore_case=ignore_case) is left_out
