"""What the types of partitions are called.

Sources: UEFI Specification (EFI system, MBR), Microsoft's PARTITION_INFORMATION_GPT, the Discoverable
Partitions Specification (Linux), VMware's and Apple's documentation; for the MBR the list of
partition types that Andries Brouwer kept.
"""

from __future__ import annotations

UNKNOWN = "unknown"


def mbr_type_name(number: int) -> str:
    """Return the name of an MBR partition type."""
    return _MBR.get(number, UNKNOWN)


def gpt_type_name(guid: str) -> str:
    """Return the name of a GPT partition type; the GUID in lower case."""
    return _GPT.get(guid, UNKNOWN)


_MBR = {
    0x00: "empty",
    0x01: "FAT12",
    0x04: "FAT16 below 32 MiB",
    0x05: "extended",
    0x06: "FAT16",
    0x07: "NTFS, exFAT or HPFS",
    0x0B: "FAT32",
    0x0C: "FAT32 (LBA)",
    0x0E: "FAT16 (LBA)",
    0x0F: "extended (LBA)",
    0x11: "hidden FAT12",
    0x12: "vendor diagnostics",
    0x14: "hidden FAT16 below 32 MiB",
    0x16: "hidden FAT16",
    0x17: "hidden NTFS, exFAT or HPFS",
    0x1B: "hidden FAT32",
    0x1C: "hidden FAT32 (LBA)",
    0x1E: "hidden FAT16 (LBA)",
    0x27: "Windows recovery environment",
    0x39: "Plan 9",
    0x41: "PowerPC PReP boot",
    0x42: "Windows LDM (dynamic disk)",
    0x63: "GNU Hurd or System V",
    0x81: "Minix",
    0x82: "Linux swap or Solaris",
    0x83: "Linux",
    0x84: "hibernation",
    0x85: "Linux extended",
    0x86: "NTFS volume set",
    0x87: "NTFS volume set",
    0x8E: "Linux LVM",
    0xA0: "hibernation",
    0xA5: "FreeBSD",
    0xA6: "OpenBSD",
    0xA8: "Apple UFS",
    0xA9: "NetBSD",
    0xAB: "Apple boot",
    0xAF: "Apple HFS or HFS+",
    0xBE: "Solaris boot",
    0xBF: "Solaris",
    0xDA: "no file system",
    0xDE: "Dell diagnostics",
    0xEA: "Linux extended boot loader",
    0xEB: "BeOS",
    0xEE: "GPT protective",
    0xEF: "EFI system",
    0xFB: "VMware VMFS",
    0xFC: "VMware VMkernel core dump",
    0xFD: "Linux RAID",
}

_GPT = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "024dee41-33e7-11d3-9d69-0008c781f39f": "MBR partition scheme",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b": "PowerPC PReP boot",
    # Microsoft
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": "Windows LDM metadata",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "Windows LDM data",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery environment",
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "Windows Storage Spaces",
    "558d43c5-a1ac-43c0-aac8-d1472b2923d1": "Windows Storage Replica",
    # Linux
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux file system",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "8da63339-0007-60c0-c436-083ac8230908": "Linux reserved",
    "44479540-f297-41b2-9af7-d131d5f0458a": "Linux root (x86)",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "69dad710-2ce4-4e3c-b16c-21a1d49abed3": "Linux root (ARM)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (ARM64)",
    "c31c45e6-3f39-412e-80fb-4809c4980599": "Linux root (PowerPC64 LE)",
    "5eead9a9-fe09-4a1e-a1d7-520d00531306": "Linux root (S390X)",
    "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": "Linux root verity (x86-64)",
    "8484680c-9521-48c6-9c11-b0720656f69e": "Linux /usr (x86-64)",
    "77ff5f63-e7b6-4633-acf4-1565b864c0e6": "Linux /usr verity (x86-64)",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux /home",
    "3b8f8425-20e0-4f3b-907f-1a25a76f98e8": "Linux /srv",
    "4d21b016-b534-45c2-a9fb-5c16e091fd2d": "Linux /var",
    "7ec6f557-3bc5-4aca-b293-16ef5df639d1": "Linux /var/tmp",
    "773f91ef-66d4-49b5-bd83-d683bf40ad16": "Linux user's home",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
    "7ffec5c9-2d00-49b7-8941-3ea10a5586b7": "Linux dm-crypt",
    "ca7d7ccb-63ed-4c53-861c-1742536059cc": "Linux LUKS",
    # VMware
    "aa31e02a-400f-11db-9590-000c2911d1b8": "VMware VMFS",
    "9d275380-40ad-11db-bf97-000c2911d1b8": "VMware diagnostics",
    "9198effc-31c0-11db-8f78-000c2911d1b8": "VMware reserved",
    "381cfccc-7288-11e0-92ee-000c2911d0b2": "VMware vSAN",
    "77719a0c-a4a0-11e3-a47e-000c29745a24": "VMware Virsto",
    # BSD, Solaris, Apple, others
    "516e7cb4-6ecf-11d6-8ff8-00022d09712b": "FreeBSD data",
    "83bd6b9d-7f41-11dc-be0b-001560b84f0f": "FreeBSD boot",
    "516e7cb5-6ecf-11d6-8ff8-00022d09712b": "FreeBSD swap",
    "516e7cb6-6ecf-11d6-8ff8-00022d09712b": "FreeBSD UFS",
    "516e7cba-6ecf-11d6-8ff8-00022d09712b": "FreeBSD ZFS",
    "49f48d32-b10e-11dc-b99b-0019d1879648": "NetBSD swap",
    "49f48d5a-b10e-11dc-b99b-0019d1879648": "NetBSD FFS",
    "824cc7a0-36a8-11e3-890a-952519ad3f61": "OpenBSD data",
    "6a85cf4d-1dd2-11b2-99a6-080020736631": "Solaris root",
    "6a898cc3-1dd2-11b2-99a6-080020736631": "Solaris /usr or Apple ZFS",
    "6a945a3b-1dd2-11b2-99a6-080020736631": "Solaris reserved",
    "48465300-0000-11aa-aa11-00306543ecac": "Apple HFS+",
    "7c3457ef-0000-11aa-aa11-00306543ecac": "Apple APFS",
    "53746f72-6167-11aa-aa11-00306543ecac": "Apple Core Storage",
    "426f6f74-0000-11aa-aa11-00306543ecac": "Apple boot",
    "fe3a2a5d-4f32-41a7-b725-accc3285a309": "ChromeOS kernel",
    "3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec": "ChromeOS root",
    "4fbd7e29-9d25-41b8-afd0-062c0ceff05d": "Ceph OSD",
}
