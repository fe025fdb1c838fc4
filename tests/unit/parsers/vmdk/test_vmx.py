"""Machine configurations as VMware's products write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.vmdk.vmx import VmxConfig, VmxDisk, parse_vmx

TEXT = """\
#!/usr/bin/vmware
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "19"
displayName = "web |2201|22 été"
guestOS = "windows2019srv-64"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsisas1068"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "web 01.vmdk"
scsi0:0.deviceType = "scsi-hardDisk"
scsi0:10.present = "TRUE"
scsi0:10.fileName = "/vmfs/volumes/ds@1/web|7C01/data.vmdk"
scsi0:10.mode = "independent-persistent"
SCSI0:2.Present = "true"
SCSI0:2.FileName = "upper.vmdk"
scsi1:3.present = "TRUE"
scsi1:3.fileName = "controller-gone.vmdk"
sata0.present = "TRUE"
sata0:0.present = "TRUE"
sata0:0.deviceType = "cdrom-image"
sata0:0.fileName = "windows.iso"
sata0:1.present = "TRUE"
sata0:1.fileName = "sata.vmdk"
nvme0.present = "TRUE"
nvme0:0.present = "TRUE"
nvme0:0.fileName = "C:\\\\VMs\\\\nvme.vmdk"
ide1:0.present = "TRUE"
ide1:0.fileName = "auto detect"
ide1:0.deviceType = "atapi-cdrom"
ide0:0.present = "FALSE"
ide0:0.fileName = "old.vmdk"
floppy0.present = "FALSE"
scsi0:0.redo = ""
"""


def test_every_disk_and_no_cdrom() -> None:
    text = TEXT.replace("\\\\", "\\")
    assert parse_vmx(text.encode()) == VmxConfig(
        'web "01" été',
        "windows2019srv-64",
        (
            VmxDisk("ide0:0", "old.vmdk", False, "", ""),
            VmxDisk("nvme0:0", "C:\\VMs\\nvme.vmdk", True, "", ""),
            VmxDisk("sata0:1", "sata.vmdk", True, "", ""),
            VmxDisk("scsi0:0", "web 01.vmdk", True, "", "scsi-hardDisk"),
            VmxDisk("scsi0:2", "upper.vmdk", True, "", ""),
            VmxDisk(
                *("scsi0:10", "/vmfs/volumes/ds@1/web|01/data.vmdk", True),
                *("independent-persistent", ""),
            ),
            VmxDisk("scsi1:3", "controller-gone.vmdk", False, "", ""),
        ),
    )


def test_the_encoding_that_the_file_names() -> None:
    text = TEXT.replace("UTF-8", "windows-1252")
    assert parse_vmx(text.encode("cp1252")).display_name == 'web "01" été'
    with pytest.raises(Corrupt, match="text is not UTF-8"):
        parse_vmx(TEXT.encode("cp1252"))
    with pytest.raises(Unsupported, match="klingon"):
        parse_vmx(TEXT.replace("UTF-8", "klingon").encode())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ('encryption.keySafe = "vmware:key/list"', Unsupported, "encrypted virtual machine"),
        ('scsi0:0.fileName = "other.vmdk"', Corrupt, "line 35 .*repeats scsi0:0.fileName"),
        ("scsi0:9.fileName", Corrupt, "line 35 .*not key = value"),
        ('annotation = "open', Corrupt, "quote not closed on line 35"),
    ],
)
def test_refusals(change: str, error: type[ParseError], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_vmx((TEXT + change).encode())


def test_what_is_no_vmx_is_not_recognised() -> None:
    for data in (b"", b"hello", bytes(100), b"a=1\n", b"# Disk DescriptorFile\nversion=1\n"):
        with pytest.raises(NotRecognised):
            parse_vmx(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_error(tail: bytes) -> None:
    try:
        assert parse_vmx(TEXT.encode() + tail).disks
    except ParseError as error:
        assert str(error)
