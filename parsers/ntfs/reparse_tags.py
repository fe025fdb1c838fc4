"""The tags of reparse points: which driver of Windows looks after a file. Source: MS-FSCC 2.1.2.1, ntifs.h."""

from __future__ import annotations

MOUNT_POINT = 0xA0000003
SYMLINK = 0xA000000C
DEDUP = 0x80000013
WOF = 0x80000017
AF_UNIX = 0x80000023
LX_SYMLINK = 0xA000001D
LX_FIFO = 0x80000024
LX_CHR = 0x80000025
LX_BLK = 0x80000026

_CLOUD = 0x9000001A
_CLOUD_MASK = 0xFFFF0FFF
"""The cloud filter has 16 tags that differ in these four bits, one for each provider of files."""

_MICROSOFT = 0x80000000

_NAMES = {
    MOUNT_POINT: "junction",
    SYMLINK: "symbolic link",
    DEDUP: "data deduplication",
    WOF: "WOF compression (CompactOS)",
    AF_UNIX: "WSL socket",
    LX_SYMLINK: "WSL symbolic link",
    LX_FIFO: "WSL pipe",
    LX_CHR: "WSL character device",
    LX_BLK: "WSL block device",
    0x80000005: "Drive Extender",
    0x80000006: "HSM2 (remote storage)",
    0x80000007: "single-instance storage",
    0x80000008: "WIM mount",
    0x80000009: "cluster shared volume",
    0x8000000A: "DFS",
    0x8000000B: "filter manager's test",
    0x80000012: "DFS replication",
    0x80000014: "NFS",
    0x80000015: "file placeholder of Windows 8.1",
    0x80000016: "dynamic file filter",
    0x80000018: "Windows container isolation",
    0x90001018: "Windows container isolation",
    0xA000001F: "Windows container isolation, deleted",
    0xA0000027: "Windows container isolation, link",
    0xA0001027: "Windows container isolation, link",
    0xA0000019: "global reparse",
    0x8000001B: "app execution link",
    0x9000001C: "projected file system",
    0xA0000022: "projected file system, deleted",
    0x8000001E: "Azure File Sync",
    0x90000027: "Azure File Sync folder",
    0x80000020: "unhandled",
    0x80000021: "OneDrive of Windows 8.1",
    0xA0000010: "IIS cache",
    0xA0000028: "composite image without data",
    0xC0000004: "HSM (remote storage)",
    0xC0000014: "application streaming",
}


def is_cloud(tag: int) -> bool:
    """Tell whether a tag is one of the cloud filter: OneDrive, Dropbox, iCloud ..."""
    return tag & _CLOUD_MASK == _CLOUD


def tag_name(tag: int) -> str:
    """Return what a tag is called; its number if it is not known here."""
    if is_cloud(tag):
        return "cloud file placeholder"
    owner = "reparse tag" if tag & _MICROSOFT else "reparse tag of another vendor"
    return _NAMES.get(tag, f"{owner} {tag:#010x}")
