"""A machine of a simulated vCenter whose disks are real ones, and the command that knows the way to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fixtures.machine import Machine, build_machine
from tests.support.vsphere.disk_machines import administrator, create_machine
from tests.system.mounts.conftest import Vmount
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter, certificate, vcenter, vcsim
from vmount.vsphere.passwords import known
from vmount.vsphere.secret import Secret
from vmount.vsphere.settings import ConnectionSettings

__all__ = ["certificate", "vcenter", "vcsim"]

PLACES = {(0, 0): "scsi0-0", (0, 3): "nvme0-0", (1, 0): "scsi1-0"}
"""Where the disks of fixtures.machine are in the machine here: a sparse one, a flat one, a chain."""
CHANGES = (
    *("Login", "DisableMethods", "CreateSnapshot_Task"),
    *("RemoveSnapshot_Task", "EnableMethods", "Logout"),
)


@dataclass(frozen=True)
class Vm:
    """A machine in the simulated vCenter."""

    moref: str
    vcenter: Vcenter
    made_of: Machine
    started: int = field(compare=False)
    """Calls before the test's own."""

    @property
    def flat(self) -> dict[str, Path]:
        """The flat images of its disks, by name."""
        return {
            f"scsi{bus}-{unit}": self.made_of.disks[name] for (bus, unit), name in PLACES.items()
        }

    def volumes(self) -> dict[str, str]:
        """The names of the volumes as the fixture has them, by those that they have here."""
        names = {name: f"scsi{bus}-{unit}" for (bus, unit), name in PLACES.items()}
        return {
            names[name.partition("-p")[0]] + "".join(name.partition("-p")[1:]): name
            for name in self.made_of.volumes
            if name.partition("-p")[0] in names
        }

    def changes(self) -> list[str]:
        """What has been called that changes something."""
        return [call["method"] for call in self.vcenter.called(*CHANGES)[self.started :]]

    def assert_left_alone(self) -> None:
        """It is as it was: no snapshot, no lock, nobody logged in."""
        calls = self.changes()
        for begun, ended in zip(CHANGES[:3], reversed(CHANGES[3:]), strict=True):
            assert calls.count(begun) == calls.count(ended) > 0, calls
        with administrator(self.vcenter) as content:
            (center,) = content.rootFolder.childEntity
            (machine,) = [vm for vm in center.vmFolder.childEntity if vm._moId == self.moref]
            assert machine.snapshot is None
            assert not machine.disabledMethod
            assert len(content.sessionManager.sessionList) == 1


@pytest.fixture(scope="session")
def made_of(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return build_machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def vm(vcenter: Vcenter, made_of: Machine, tmp_path: Path) -> Vm:
    folder = made_of.vmx.parent
    only = tmp_path / "descriptors"
    only.mkdir()
    for file in folder.glob("*.vmdk"):
        if file.name.startswith(("scsi0-0", "nvme0-0", "chain-")):
            (only / file.name).symlink_to(file)
    chain = [only / f"chain-{number:03}.vmdk" for number in reversed(range(32))]
    files = {"scsi0-0": [only / "scsi0-0.vmdk"], "nvme0-0": [only / "nvme0-0.vmdk"]}
    disks = {
        place: (files.get(name, chain), made_of.disks[name].stat().st_size)
        for place, name in PLACES.items()
    }
    moref = create_machine(vcenter, disks)
    return Vm(moref, vcenter, made_of, len(vcenter.called(*CHANGES)))


@pytest.fixture
def vmount(tmp_path: Path, vcenter: Vcenter) -> Vmount:
    made = Vmount(tmp_path)
    made.environment |= {
        "GOVC_URL": f"{vcenter.host}:{vcenter.port}",
        "GOVC_USERNAME": USER,
        "GOVC_PASSWORD": PASSWORD,
        "GOVC_TLS_CA_CERTS": str(vcenter.certificate),
    }
    return made


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def connection_to(vcenter: Vcenter) -> ConnectionSettings:
    return ConnectionSettings(
        host=vcenter.host,
        port=vcenter.port,
        user=USER,
        password=known("test", Secret(PASSWORD)),
        ca_file=vcenter.certificate,
    )
