"""How fast a machine's disk comes over https through the mount, beside httpx on the same ranges.

    python -m bench.https [--size MIB] [--rounds N]

Run by hand, as root. The server is the simulated vCenter of the tests, on this machine: what counts is the
ratio, of medians of rounds that alternate, each with a mount and caches of its own.
"""

from __future__ import annotations

import argparse
import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from bench.timing import drop_caches, median, timed
from tests.support.vsphere.disk_machines import create_machine
from tests.system.vsphere.conftest import BUILD, PASSWORD, USER, Vcenter, make_certificate, running
from vmount.datastores.path import DatastorePath, folder_url

MIB = 1 << 20
RANGE = MIB
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="vmfs"

RW {sectors} VMFS "disk-flat.vmdk"
"""


def main() -> None:
    """Print both throughputs and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="MiB")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    size = arguments.size * MIB
    program = subprocess.run([BUILD], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate = make_certificate(folder)
        source = folder / "source"
        source.mkdir()
        (source / "disk.vmdk").write_text(DESCRIPTOR.format(sectors=size // 512))
        (source / "disk-flat.vmdk").write_bytes(os.urandom(size))
        with running(Path(program), certificate, folder / "vcsim") as vcenter:
            moref = create_machine(vcenter, {(0, 0): ([source / "disk.vmdk"], size)})
            ours, plain = [], []
            for _ in range(arguments.rounds):
                ours.append(size / MIB / _through_the_mount(vcenter, moref, folder))
                plain.append(size / MIB / timed(lambda: _by_httpx(vcenter, size)))
    print(f"through the mount {median(ours):7.0f} MiB/s")
    print(f"httpx             {median(plain):7.0f} MiB/s")
    print(f"ratio             {median(ours) / median(plain):7.2f}")


def _through_the_mount(vcenter: Vcenter, moref: str, folder: Path) -> float:
    """Return the seconds that reading the disk takes."""
    mountpoint = folder / "mnt"
    mountpoint.mkdir(exist_ok=True)
    environment = os.environ | {
        "GOVC_URL": f"{vcenter.host}:{vcenter.port}",
        "GOVC_USERNAME": USER,
        "GOVC_PASSWORD": PASSWORD,
        "GOVC_TLS_CA_CERTS": str(vcenter.certificate),
    }
    vmount = [sys.executable, "-m", "vmount"]
    state = ["--state-dir", str(folder / "state")]
    transport = ["--transport", "https"]
    subprocess.run(
        [*vmount, "mount", moref, mountpoint, *transport, *state], check=True, env=environment
    )
    try:
        drop_caches()
        return timed(lambda: _read(mountpoint / "disks/scsi0-0.raw"))
    finally:
        subprocess.run([*vmount, "umount", mountpoint, *state], check=True)


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(RANGE):
            pass


def _by_httpx(vcenter: Vcenter, size: int) -> None:
    """Read the ranges one after the other, on one kept connection."""
    url = folder_url(
        f"https://{vcenter.host}:{vcenter.port}",
        DatastorePath("LocalDS_0", "web01/disk-flat.vmdk"),
        "DC0",
        via_vcenter=True,
    )
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with httpx.Client(
        verify=vcenter.trusting(), trust_env=False, headers={"Authorization": f"Basic {token}"}
    ) as client:
        for start in range(0, size, RANGE):
            answer = client.get(url, headers={"Range": f"bytes={start}-{start + RANGE - 1}"})
            assert len(answer.content) == RANGE


if __name__ == "__main__":
    main()
