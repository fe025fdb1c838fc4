"""The simulated vCenter does what the tests of virtual machines stand on."""

from __future__ import annotations

import base64
import ssl
import urllib.error
import urllib.parse
import urllib.request

import pytest
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter


def test_logs_in_and_finds_a_machine_and_its_disk(vcenter: Vcenter) -> None:
    service = SmartConnect(
        host=vcenter.host,
        port=vcenter.port,
        user=USER,
        pwd=PASSWORD,
        sslContext=vcenter.trusting(),
    )
    try:
        index = service.RetrieveContent().searchIndex
        machine = index.FindByInventoryPath("DC0/vm/DC0_H0_VM0")
        assert machine._GetMoId() == "vm-57"
        names = [
            device.backing.fileName
            for device in machine.config.hardware.device
            if isinstance(device.backing, vim.vm.device.VirtualDisk.FlatVer2BackingInfo)
        ]
        assert names == ["[LocalDS_0] DC0_H0_VM0/disk1.vmdk"]
        assert (vcenter.datastores["LocalDS_0"] / "DC0_H0_VM0/disk1.vmdk").is_file()
    finally:
        Disconnect(service)


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), ("nobody", PASSWORD)])
def test_refuses_a_wrong_login(vcenter: Vcenter, user: str, password: str) -> None:
    with pytest.raises(vim.fault.InvalidLogin):
        SmartConnect(
            host=vcenter.host,
            port=vcenter.port,
            user=user,
            pwd=password,
            sslContext=vcenter.trusting(),
        )


def test_certificate_is_not_one_the_system_trusts(vcenter: Vcenter) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        SmartConnect(
            host=vcenter.host,
            port=vcenter.port,
            user=USER,
            pwd=PASSWORD,
            sslContext=ssl.create_default_context(),
        )


def ask(vcenter: Vcenter, path: str, headers: dict[str, str], **query: str) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"https://{vcenter.host}:{vcenter.port}/folder/{urllib.parse.quote(path)}"
        f"?{urllib.parse.urlencode(query)}",
        headers=headers,
    )
    try:
        with urllib.request.urlopen(request, context=vcenter.trusting(), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_serves_a_range_of_a_file_to_who_is_known(vcenter: Vcenter) -> None:
    name = "ç%#?&+ a.vmdk"
    content = bytes(range(256)) * 16
    (vcenter.datastores["LocalDS_0"] / name).write_bytes(content)
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    known = {"Range": "bytes=100-611", "Authorization": f"Basic {token}"}
    place = {"dcPath": "DC0", "dsName": "LocalDS_0"}
    assert ask(vcenter, name, known, **place) == (206, content[100:612])
    assert ask(vcenter, name, {"Range": "bytes=100-611"}, **place)[0] == 401
    assert ask(vcenter, name, known | {"Authorization": "Basic bm9uZTpub25l"}, **place)[0] == 401
    assert ask(vcenter, name, known, dcPath="DC0", dsName="other")[0] == 404


def test_goes_wrong_as_told(vcenter: Vcenter) -> None:
    (vcenter.datastores["LocalDS_0"] / "a").write_bytes(b"content")
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    known = {"Authorization": f"Basic {token}"}
    vcenter.faults.write_text("503\n401\n")
    answers = [ask(vcenter, "a", known, dcPath="DC0", dsName="LocalDS_0") for _ in range(3)]
    assert answers == [(503, b""), (401, b""), (200, b"content")]
