"""The commands as a user runs them; none of them tells a password (R19)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.json_schema import check
from tests.support.paths import ROOT
from tests.support.vsphere.controls import Controls
from tests.support.vsphere.forwarder import forwarding
from tests.support.vsphere.machines import Wanted, new_folder, new_machine
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter
from vmount.vsphere.address import join_host_port
from vmount.vsphere.session import Session, connected
from vmount.vsphere.settings import ConnectionSettings

TIMEOUT = 60
SECRETS = (PASSWORD, "battery", "vmware_soap_session=")


@dataclass
class Command:
    """The command with an environment of its own."""

    folder: Path
    environment: dict[str, str]

    def run(
        self, *words: str, code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it with the most that it can log, and look for secrets in all that it says."""
        log = self.folder / "log"
        done = subprocess.run(
            [sys.executable, "-m", "vmount", *words, "--log-file", log, "--log-level", "debug"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "LANG": "C", **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        for text in (done.stdout, done.stderr, log.read_text() if log.exists() else ""):
            assert not [secret for secret in SECRETS if secret in text]
        return done

    def json(self, *words: str, code: int = 0) -> Any:
        value = json.loads(self.run(*words, "--json", code=code).stdout)
        check(words[0], value)
        return value

    def error(self, *words: str, code: int, **environment: str) -> str:
        return self.run(*words, code=code, **environment).stderr.splitlines()[-1]


@pytest.fixture
def command(vcenter: Vcenter, tmp_path: Path) -> Command:
    return Command(
        tmp_path,
        {
            "HOME": str(tmp_path),
            "VMOUNT_VDDK_LIBDIR": str(tmp_path),
            "GOVC_URL": f"https://{join_host_port(vcenter.host, vcenter.port)}/sdk",
            "GOVC_USERNAME": USER,
            "GOVC_PASSWORD": PASSWORD,
            "GOVC_TLS_CA_CERTS": str(vcenter.certificate),
        },
    )


async def test_vms(settings: ConnectionSettings, command: Command, vcenter: Vcenter) -> None:
    async with connected(settings) as session:
        await new_folder(session, "höhle")
        moref = await new_machine(session, "a%2fb", folder="DC0/vm/höhle")
    listed = command.json("vms")
    assert [entry["path"] for entry in listed] == [
        "/DC0/vm/DC0_C0_RP0_VM0",
        "/DC0/vm/DC0_C0_RP0_VM1",
        "/DC0/vm/DC0_H0_VM0",
        "/DC0/vm/DC0_H0_VM1",
        "/DC0/vm/höhle/a%2fb",
    ]
    assert listed[-1]["moref"] == moref
    assert (listed[-1]["name"], listed[-1]["power"]) == ("a/b", "off")
    lines = command.run("vms", "A/*").stdout.splitlines()
    assert len(lines) == 1, "a path is meant"
    lines = command.run("vms", "*/HÖHLE/*").stdout.splitlines()
    assert lines[1].split()[:3] == [moref, "/DC0/vm/höhle/a%2fb", "off"]
    assert Controls(vcenter).sessions() == 0


async def take(session: Session, name: str, *, quiesce: bool = False) -> None:
    def ask() -> Any:
        return session.vm("vm-57").CreateSnapshot_Task(name, f"about {name}", False, quiesce)

    await session.wait_task(await session.call(ask), 10)


async def test_snapshots(settings: ConnectionSettings, command: Command) -> None:
    assert command.run("snapshots", "vm-57").stdout == "vm-57 /DC0/vm/DC0_H0_VM0: no snapshots\n"
    async with connected(settings) as session:
        await take(session, "before/update")
        await take(session, "after", quiesce=True)
    first, second = command.json("snapshots", "DC0_H0_VM0")
    assert (first["name"], first["is_current"], first["is_quiesced"]) == (
        "before/update",
        False,
        False,
    )
    assert (second["path"], second["is_current"], second["is_quiesced"]) == (
        "before/update/after",
        True,
        True,
    )
    lines = command.run("snapshots", "vm-57").stdout.splitlines()
    assert lines[0] == "vm-57 /DC0/vm/DC0_H0_VM0"
    assert lines[1].startswith(f"└── {first['moref']}  ")
    assert lines[2].startswith(f"    └── {second['moref']}  ")
    assert lines[2].endswith("after  (quiesced, current)  about after")
    assert "no VM 'web'; vmount vms lists them" in command.error("snapshots", "web", code=3)


@pytest.mark.vcsim("-esx")
def test_on_a_host(command: Command) -> None:
    assert [entry["name"] for entry in command.json("vms")] == ["ha-host_VM0", "ha-host_VM1"]
    states = {
        finding["name"]: finding["state"] for finding in command.json("doctor", "ha-host_VM0")
    }
    assert states["server"] == "ok"
    assert "Global.DisableMethods" not in states, "a host has no relocation lock"


def test_ways_to_say_whom_and_how(vcenter: Vcenter, command: Command, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    place = join_host_port(vcenter.host, vcenter.port)
    options = ["--vcenter", place, "--user", USER, "--password-file", str(secret)]
    alone = Command(tmp_path, {"HOME": str(tmp_path)})
    asked = alone.error("vms", *options, code=3)
    assert "the certificate is not trusted: self-signed certificate" in asked
    thumbprint = asked.partition("thumbprint is ")[2].partition(",")[0]
    alone.run("vms", *options, "--thumbprint", thumbprint)
    assert "the certificate is not verified" in alone.run("vms", *options, "--insecure").stderr
    alone.run("vms", *options, "--ca-file", str(vcenter.certificate))
    (tmp_path / ".config/vmount").mkdir(parents=True)
    (tmp_path / ".config/vmount/config.toml").write_text(
        f'[profiles.lab]\nhost = "{place}"\nuser = "{USER}"\nthumbprint = "{thumbprint}"\n'
        f'password-command = "cat {secret}"\n'
    )
    alone.run("vms", "--profile", "lab")
    assert "no vCenter or ESXi host given" in alone.error("vms", code=2)
    assert "no profile 'x'; profiles: lab" in alone.error("vms", "--profile", "x", code=2)


@pytest.mark.requirement("R19")
def test_failures_tell_no_secret(vcenter: Vcenter, command: Command) -> None:
    wrong = PASSWORD + "!"
    assert "refused the login of reader" in command.error("vms", code=3, GOVC_PASSWORD=wrong)
    place = join_host_port(vcenter.host, vcenter.port)
    in_argv = command.error("vms", "--vcenter", f"{USER}:{PASSWORD}@{place}", code=2)
    assert "do not write a password on the command line" in in_argv
    url = f"https://{USER}:{PASSWORD}@{place}:9999999/sdk"
    assert "invalid port" in command.error("vms", code=2, GOVC_URL=url)
    assert "unsupported scheme http://" in command.error(
        "vms", code=2, GOVC_URL=url.replace("s", "", 1)
    )
    assert "no password for" in command.error("vms", code=2, GOVC_PASSWORD="")
    assert "certificate" in command.error("vms", code=3, GOVC_TLS_CA_CERTS="/dev/null")
    command.error("vms", code=3, GOVC_URL=f"https://{USER}:{PASSWORD}@nobody.invalid/sdk")
    with forwarding(None) as silent:
        url = f"https://{USER}:{PASSWORD}@127.0.0.1:{silent.port}"
        said = command.error("vms", "--connect-timeout", "0.5", code=3, GOVC_URL=url)
        assert "no answer within 0.5 s" in said


@pytest.mark.requirement("R19")
def test_children_are_not_told(vcenter: Vcenter, command: Command, tmp_path: Path) -> None:
    """What the process and its children were called with, as everybody can read it."""
    seen = tmp_path / "seen"
    helper = tmp_path / "helper"
    helper.write_text(
        f"#!/bin/sh\ncat /proc/$PPID/cmdline /proc/self/cmdline > {seen}\ncat {tmp_path}/secret\n"
    )
    helper.chmod(0o700)
    (tmp_path / "secret").write_text(PASSWORD)
    (tmp_path / ".config/vmount").mkdir(parents=True)
    (tmp_path / ".config/vmount/config.toml").write_text(
        f'[profiles.p]\nuser = "{USER}"\npassword-command = ["{helper}"]\n'
    )
    del command.environment["GOVC_PASSWORD"]
    command.run("vms", "--profile", "p")
    assert b"vmount" in seen.read_bytes()
    assert PASSWORD.encode() not in seen.read_bytes()


def doctor(command: Command, *words: str, code: int) -> dict[str, dict[str, str]]:
    return {one["name"]: one for one in command.json("doctor", *words, code=code)}


async def test_doctor(settings: ConnectionSettings, vcenter: Vcenter, command: Command) -> None:
    disks = [
        Wanted(["[LocalDS_0] DC0_H0_VM0/disk1.vmdk"]),
        Wanted(["[LocalDS_0] DC0_H0_VM1/disk1.vmdk"], unit=1, mode="independent_persistent"),
    ]
    async with connected(settings) as session:
        moref = await new_machine(session, "web01", disks)
        await session.wait_task(await session.call(lambda: session.vm(moref).PowerOn(None)), 10)
    found = doctor(command, "web01", code=3)
    for name in ("name 127.0.0.1", f"port {vcenter.port} of 127.0.0.1", "certificate", "login"):
        assert found[name]["state"] == "ok", name
    assert found["login"]["detail"] == f"{USER}, password from GOVC_PASSWORD"
    assert found[f"machine {moref}"]["detail"].startswith("/DC0/vm/web01, poweredOn on DC0_")
    assert found["disk scsi0-0"]["state"] == "ok"
    assert found["disk scsi0-1"]["state"] == "problem"
    assert "independent: snapshots do not include it" in found["disk scsi0-1"]["detail"]
    assert "VDDK is not installed" in found["transport nbdssl"]["detail"]
    assert found["transport https"] == {
        "schema": 1,
        "name": "transport https",
        "state": "ok",
        "detail": "would be used",
    }
    ports = [one for name, one in found.items() if name.startswith("port 902 of DC0_")]
    assert [one["state"] for one in ports] == ["optional"]
    assert Controls(vcenter).sessions() == 0


@pytest.mark.requirement("R14")
def test_doctor_names_the_privilege_that_lacks(vcenter: Vcenter, command: Command) -> None:
    controls = Controls(vcenter)
    controls.refuse("Datastore.Browse")
    found = doctor(command, "vm-57", code=3)
    assert found["Datastore.Browse"]["detail"] == (
        'for the transport https: grant "Datastore: Browse datastore" on datastore LocalDS_0'
    )
    assert found["Datastore.Browse"]["state"] == "optional"
    assert found["transport https"]["detail"] == "lacks Datastore.Browse"
    assert found["transport"]["state"] == "problem", "no other way is left"
    controls.refuse("VirtualMachine.State.CreateSnapshot")
    found = doctor(command, "vm-57", code=3)
    told = found["VirtualMachine.State.CreateSnapshot"]
    assert told["state"] == "problem"
    assert told["detail"].endswith('"Snapshot management: Create snapshot" on /DC0/vm/DC0_H0_VM0')
    assert found["VirtualMachine.State.RemoveSnapshot"]["state"] == "ok"


def test_doctor_goes_as_far_as_it_can(vcenter: Vcenter, command: Command) -> None:
    found = doctor(command, "nobody", code=3)
    assert found["machine"]["detail"].endswith("no VM 'nobody'; vmount vms lists them")
    command.environment["GOVC_PASSWORD"] = "wrong"
    assert "refused the login" in doctor(command, code=3)["login"]["detail"]
    del command.environment["GOVC_TLS_CA_CERTS"]
    assert "is not trusted" in doctor(command, code=3)["certificate"]["detail"]
    command.environment["GOVC_URL"] = "127.0.0.1:1"
    assert "Connection refused" in doctor(command, code=3)["port 1 of 127.0.0.1"]["detail"]
    command.environment["GOVC_URL"] = "nobody.invalid"
    assert "name resolution" in doctor(command, code=3)["name nobody.invalid"]["detail"]
    del command.environment["GOVC_URL"]
    assert doctor(command, code=0)["vCenter"]["state"] == "optional"
    assert doctor(command, "web", code=3)["vCenter"]["state"] == "problem"
