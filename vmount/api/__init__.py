"""The Python API: the disks of a machine without FUSE and without an event loop.

    with open_disks("web01.vmdk") as disks:
        for volume in disks.volumes:
            print(volume.name, volume.fstype)
        print(disks.listdir("disk0-p1/Users"))
        with disks.open("disk0-p1/Users/ann/notes.txt") as file:
            data = file.read()

A program that needs a mount has one for as long as the set is open, volume by volume:

    with open_disks("web01.vmdk") as disks:
        for handle in disks.volume_handles():
            print(handle.mount())

`DiskSet` says what paths are. Any thread may use a set. docs/api.md has examples.
"""

from vmount.api.browse import DirEntry
from vmount.api.disk_set import DiskSet, open_disks
from vmount.api.file_reader import FileReader
from vmount.api.handles import (
    DiskSetInfo,
    OsFamily,
    OsInfo,
    VolumeHandle,
    VolumeInfo,
    VolumeType,
)
from vmount.api.lookup import Entry, FileRef
from vmount.api.stat_result import FileStat
from vmount.options import OpenOptions
from vmount.volumes.unread import Unread

__all__ = [
    "DirEntry",
    "DiskSet",
    "DiskSetInfo",
    "Entry",
    "FileReader",
    "FileRef",
    "FileStat",
    "OpenOptions",
    "OsFamily",
    "OsInfo",
    "Unread",
    "VolumeHandle",
    "VolumeInfo",
    "VolumeType",
    "open_disks",
]
