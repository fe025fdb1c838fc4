"""R53: desktops and volume managers leave the disks alone that vmount has attached."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.backends.nbd.servers import need
from tests.support.loop_devices import attached
from tests.support.paths import ROOT

RULES = ROOT / "contrib" / "61-vmount.rules"
ATTACHED, OTHER = "6000c29abb615d7c60d39e3c4b1d0001", "6000c29abb615d7c60d39e3c4b1d0002"
SCRIPT = """
set -e
mount -t tmpfs none /run
mkdir -p /run/udev/rules.d /run/vmount/attached/$1
cp "$2" /run/udev/rules.d/
echo "SUBSYSTEM==\\"block\\", ENV{ID_SERIAL_SHORT}=\\"$3\\"" > /run/udev/rules.d/60-serial.rules
udevadm test --action=add "/sys/class/block/$4" 2>&1
"""


@pytest.mark.requirement("R53")
@pytest.mark.parametrize(("serial", "is_ignored"), [(ATTACHED, True), (OTHER, False)])
def test_udev_is_told_of_attached_disks(tmp_path: Path, serial: str, is_ignored: bool) -> None:
    need("udevadm")
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    with attached(image) as device:
        command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh"]
        done = subprocess.run(
            [*command, ATTACHED, RULES, serial, device.name],
            check=True,
            capture_output=True,
            text=True,
        )
    lines = done.stdout.splitlines()
    assert f"ID_SERIAL_SHORT={serial}" in lines
    assert ("UDISKS_IGNORE=1" in lines) is is_ignored
    assert ("SYSTEMD_READY=0" in lines) is is_ignored
