"""Where a secret could be seen by others, and is not."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fixtures.programs import run
from tests.support.mounts.virtual_machines import (
    Vm,
    certificate,
    digest,
    made_of,
    vcenter,
    vcsim,
    vm,
    vmount,
)
from tests.support.vsphere.disk_machines import STORE
from tests.system.mounts.conftest import Vmount
from tests.system.vsphere.conftest import PASSWORD, USER

__all__ = ["certificate", "made_of", "vcenter", "vcsim", "vm", "vmount"]

pytestmark = pytest.mark.mount

TOKEN = "s3cr3t-of-the-query"


def test_a_token_in_an_address_is_shown_nowhere(vmount: Vmount, vm: Vm) -> None:
    base = f"https://{vm.vcenter.host}:{vm.vcenter.port}/folder/web01/nvme0-0-flat.vmdk"
    vmount.environment |= {
        "SSL_CERT_FILE": str(vm.vcenter.certificate),
        "VMOUNT_HTTP_USER": USER,
        "VMOUNT_HTTP_PASSWORD": PASSWORD,
    }
    source = f"{base}?dcPath=DC0&dsName={STORE}&token={TOKEN}"
    with vmount.mounted(source) as mountpoint:
        assert digest(mountpoint / "disks/disk0.raw") == digest(vm.flat["scsi0-3"])
        status = (mountpoint / ".vmount/status.json").read_text()
        shown = [
            Path("/proc/mounts").read_text(),
            status,
            (mountpoint / "info.json").read_text(),
            *(path.read_text() for path in vmount.state.glob("*.journal")),
            vmount.run("status", "--json").stdout.decode(),
        ]
        for text in shown:
            assert base in text or text is shown[2]
            assert TOKEN not in text
        assert PASSWORD not in environments_of_helpers(json.loads(status)["pid"])


def environments_of_helpers(pid: int) -> str:
    """Return the environments of the programs that a process has started."""
    found = ""
    for child in run("ps", "-o", "pid=", "--ppid", str(pid)).split():
        found += Path(f"/proc/{child}/environ").read_text()
    assert found, "the mounter runs as long as the mount"
    return found


def test_a_new_log_file_is_its_users_alone(vmount: Vmount, tmp_path: Path) -> None:
    log, old = tmp_path / "log", tmp_path / "old"
    old.touch(0o644)
    old.chmod(0o644)
    for path in (log, old):
        vmount.run("info", "missing.img", "--log-file", path, check=False)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(old.stat().st_mode) == 0o644
