"""NTFS has what only some file systems have, under the names by which the layers above ask for it."""

from __future__ import annotations

import os

from vmount.jobs.local_folder import UNLISTED
from vmount.parsers.ext.filesystem import ExtFilesystem
from vmount.parsers.model import HiddenXattrs, LinkTargets, Streams
from vmount.parsers.ntfs import NtfsFilesystem
from vmount.parsers.ntfs.stream_names import StreamsFilesystem


def test_ntfs_implements_the_optional_protocols() -> None:
    for kind in (NtfsFilesystem, StreamsFilesystem):
        bare = kind.__new__(kind)
        assert isinstance(bare, HiddenXattrs)
        assert isinstance(bare, LinkTargets)
        assert isinstance(bare, Streams)


def test_a_file_system_without_them_does_not() -> None:
    bare = ExtFilesystem.__new__(ExtFilesystem)
    assert not isinstance(bare, HiddenXattrs | LinkTargets | Streams)


def test_a_folder_of_a_mount_is_asked_for_what_a_restore_should_have() -> None:
    assert [os.fsencode(name) for name in UNLISTED] == list(NtfsFilesystem.restorable)
