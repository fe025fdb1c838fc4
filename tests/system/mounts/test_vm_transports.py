"""A machine's disks by every transport that can be had here, with what can go wrong on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from fixtures.machine import Machine
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
from tests.support.vsphere.disk_machines import STORE, administrator
from tests.system.mounts.conftest import Vmount
from tests.system.vsphere.conftest import PASSWORD, USER
from tests.unit.datastores.test_path import NAMES
from tests.vddk.stub import Vddk, build_vddk
from vmount.backends.base import BackendError
from vmount.backends.nbd.backend import open_nbd
from vmount.backends.nbd.process import NbdProcess
from vmount.datastores.path import DatastorePath
from vmount.transports.vddk import VddkDisk, find_library, vddk_program

__all__ = ["certificate", "made_of", "vcenter", "vcsim", "vm", "vmount"]

pytestmark = pytest.mark.mount


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Vddk:
    return build_vddk(tmp_path_factory.mktemp("vddk"))


@pytest.fixture
def vddk(built: Vddk, vmount: Vmount, vm: Vm) -> Vddk:
    """VDDK for the command, with the machine's disks."""
    built.reset()
    files = {"scsi0-0": "scsi0-0", "scsi0-3": "nvme0-0", "scsi1-0": "chain-031"}
    built.serve({f"[{STORE}] web01/{files[name]}.vmdk": flat for name, flat in vm.flat.items()})
    vmount.environment |= built.environment
    return built


def command_lines(mountpoint: Path) -> bytes:
    """Return those of a mount's process and of all that it has started."""
    pending = [json.loads((mountpoint / ".vmount/status.json").read_text())["pid"]]
    found = []
    while pending:
        process = Path(f"/proc/{pending.pop()}")
        found.append((process / "cmdline").read_bytes())
        for task in (process / "task").iterdir():
            pending += map(int, (task / "children").read_text().split())
    return b"\n".join(found)


@pytest.mark.requirement("R2", "R3")
@pytest.mark.parametrize("way", ["nbdssl", "nbd", "mine"])
def test_disks_by_programs_that_speak_nbd(
    vmount: Vmount, vm: Vm, vddk: Vddk, way: str, tmp_path: Path
) -> None:
    vddk.expect(
        user=USER,
        password=PASSWORD,
        server=vm.vcenter.host,
        port=str(vm.vcenter.port),
        vm=f"moref={vm.moref}",
        transports=way,
    )
    if way == "mine":
        for name, flat in vm.flat.items():
            (tmp_path / f"{name}.raw").symlink_to(flat)
        names = {"scsi0-0": "scsi0-0", "nvme0-0": "scsi0-3", "chain-031": "scsi1-0"}
        for file, name in names.items():
            (tmp_path / f"{file}.raw").unlink(missing_ok=True)
            (tmp_path / f"{file}.raw").symlink_to(vm.flat[name])
        configure(vmount, tmp_path)
    with vmount.mounted(vm.moref, "--transport", f"{way}:https") as mountpoint:
        info = json.loads((mountpoint / "info.json").read_text())
        assert [disk["transport"]["used"] for disk in info["disks"]] == [way] * 3
        for name, flat in vm.flat.items():
            assert digest(mountpoint / "disks" / f"{name}.raw") == digest(flat)
        lines = command_lines(mountpoint)
        assert lines.count(b"--unix") == 3
        assert PASSWORD.encode() not in lines
        folders = [word for word in lines.split(b"\0") if b"vmount-nbd-" in word]
        assert len(folders) == 3
    assert not any(Path(os.fsdecode(folder)).parent.exists() for folder in folders)
    vm.assert_left_alone()
    assert not any(vmount.state.iterdir())


def configure(vmount: Vmount, folder: Path) -> None:
    """Have "mine" serve raw files from a folder."""
    script = f'exec nbdkit -f -r --unix "$1" file {folder}/"$(basename "$2" .vmdk).raw"'
    words = ["sh", "-c", script, "sh", "{socket}", "{path}"]
    config = folder / "config/vmount/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"[transports.mine]\ncommand = {json.dumps(words)}\n")
    vmount.environment["XDG_CONFIG_HOME"] = str(folder / "config")


@pytest.mark.requirement("R4", "R21")
def test_what_vddk_refuses_is_told_and_another_way_found(
    vmount: Vmount, vm: Vm, vddk: Vddk
) -> None:
    vddk.expect(user="somebody else")
    info = json.loads(vmount.run("info", "--json", vm.moref).stdout)
    for disk in info["disks"]:
        assert disk["transport"]["used"] == "https"
        refused = disk["transport"]["refused"]
        assert [refusal["name"] for refusal in refused] == ["san", "hotadd", "nbdssl", "nbd"]
        for refusal in refused[2:]:
            assert f"user: not '{USER}'" in refusal["reason"]
            assert PASSWORD not in refusal["reason"]
            assert "with ***" in refusal["reason"]
    text = vmount.error("info", vm.moref, "--transport", "nbdssl", code=3)
    assert "no transport can read this disk: nbdssl: nbdkit vddk (nbdssl)" in text
    vm.assert_left_alone()


@pytest.mark.requirement("R16")
async def test_odd_names_reach_vddk(
    built: Vddk, made_of: Machine, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in built.environment.items():
        monkeypatch.setenv(name, value)
    built.reset()
    image = made_of.disks["scsi0-0"]
    paths = [str(DatastorePath(name, f"{name}/{name}.vmdk")) for name in NAMES]
    built.serve(dict.fromkeys(paths, image))
    password = "pass'word\" {socket} $x \\"
    built.expect(password=password, vm="moref=vm-1", snapshot="snapshot-2", thumbprint="AA:BB")
    for path in [*paths, "[ds] none.vmdk"]:
        disk = VddkDisk(
            *("127.0.0.1", 443, "me", password, "AA:BB", "vm-1", "snapshot-2", path, "nbd")
        )
        with vddk_program(disk, find_library()) as program:
            process = await NbdProcess.start(program, nursery)
        uri = f"nbd+unix:///?socket={quote(str(process.socket))}"
        if path in paths:
            transport = await open_nbd(uri, nursery)
            assert await transport.read(512, 4096) == image.read_bytes()[512 : 512 + 4096]
            await transport.aclose()
        else:
            with pytest.raises(BackendError):
                await open_nbd(uri, nursery)
            await process.aclose()
            assert "not a virtual disk" in process.last_words
        await process.aclose()


def test_https_addresses_are_sources(vmount: Vmount, vm: Vm) -> None:
    """Also of what no machine has: the descriptor's other files are beside it."""
    base = f"https://{vm.vcenter.host}:{vm.vcenter.port}/folder/web01"
    query = f"dcPath=DC0&dsName={STORE}"
    vmount.environment["SSL_CERT_FILE"] = str(vm.vcenter.certificate)
    sources = [f"{base}/{name}?{query}" for name in ("chain-031.vmdk", "nvme0-0-flat.vmdk")]
    text = vmount.error("info", sources[0], code=3)
    assert "401 (not authorised)" in text
    vmount.environment |= {"VMOUNT_HTTP_USER": USER, "VMOUNT_HTTP_PASSWORD": PASSWORD}
    with vmount.mounted(*sources) as mountpoint:
        info = json.loads((mountpoint / "info.json").read_text())
        assert digest(mountpoint / "disks/disk0.raw") == digest(vm.flat["scsi1-0"])
        assert digest(mountpoint / "disks/disk1.raw") == digest(vm.flat["scsi0-3"])
    assert [disk["format"] for disk in info["disks"]] == ["monolithicSparse", "raw"]
    assert [disk["transport"]["used"] for disk in info["disks"]] == ["https", "https"]
    assert "no such file on the server" in vmount.error("info", f"{base}/no.vmdk?{query}", code=3)
    text = vmount.error("info", "https://me:secret@127.0.0.1/a.vmdk", code=3)
    assert "must not contain a user name or password" in text
    assert "secret" not in text


@pytest.mark.requirement("R38")
def test_what_goes_wrong_at_folder_is_repeated(vmount: Vmount, vm: Vm) -> None:
    passing = ["503", "", "401", "", "", "short", "stall", "", "429", "", "502", "short"]
    vm.vcenter.faults.write_text("\n".join(passing * 3) + "\n")
    for name, flat in vm.flat.items():
        raw = vmount.run("cat", vm.moref, f"disks/{name}.raw", "--timeout", "10").stdout
        assert raw == flat.read_bytes()
    assert not vm.vcenter.faults.read_text()
    vm.assert_left_alone()


def test_a_session_that_was_ended_is_renewed(vmount: Vmount, vm: Vm) -> None:
    with vmount.mounted(vm.moref) as mountpoint:
        with administrator(vm.vcenter) as content:
            manager = content.sessionManager
            (other,) = [
                session.key
                for session in manager.sessionList
                if session.key != manager.currentSession.key
            ]
            manager.TerminateSession([other])
        for name, flat in vm.flat.items():
            assert digest(mountpoint / "disks" / f"{name}.raw") == digest(flat)
    calls = vm.changes()
    assert calls.count("Login") == 3  # the command's two and the administrator's


@pytest.mark.requirement("R50")
@pytest.mark.parametrize(
    ("status", "told"), [("500", "locked by a running VM"), ("404", "no such file")]
)
def test_what_stays_wrong_is_told(vmount: Vmount, vm: Vm, status: str, told: str) -> None:
    vm.vcenter.faults.write_text(f"{status}\n" * 500)
    text = vmount.error("info", vm.moref, "--transport", "https", code=3)
    assert text.count(told) == 3
    vm.vcenter.faults.write_text("")
    vm.assert_left_alone()


@pytest.mark.requirement("R19")
def test_no_secret_is_told_anywhere(vmount: Vmount, vm: Vm, vddk: Vddk, tmp_path: Path) -> None:
    log = tmp_path / "log"
    said = [b""]
    logging = ("--log-level", "debug", "--log-file", log)
    secrets = [PASSWORD]
    for transport, setting in (("nbdssl", USER), ("nbdssl:https", "nobody"), ("https", "")):
        vddk.expect(user=setting)
        vm.vcenter.faults.write_text("401\n503\nshort\n")
        mountpoint = vmount.new_mountpoint()
        done = vmount.run("mount", vm.moref, mountpoint, "--transport", transport, *logging)
        said += [done.stdout, done.stderr, (mountpoint / "info.json").read_bytes()]
        said.append((mountpoint / ".vmount/status.json").read_bytes())
        said += [file.read_bytes() for file in vmount.state.iterdir() if file.is_file()]
        said.append(command_lines(mountpoint))
        with administrator(vm.vcenter) as content:
            secrets += [session.key for session in content.sessionManager.sessionList]
        vmount.run("umount", mountpoint)
    vm.vcenter.faults.write_text("500\n" * 100)
    said.append(vmount.run("info", vm.moref, *logging, "--transport", "https", check=False).stderr)
    vmount.environment["GOVC_PASSWORD"] = wrong = "wr0ng&pass"
    said.append(vmount.run("info", vm.moref, *logging, check=False).stderr)
    said.append(log.read_bytes())
    for secret in [*secrets, wrong]:
        assert secret.encode() not in b"\n".join(said)
    assert b"login of reader with ***" in log.read_bytes()
