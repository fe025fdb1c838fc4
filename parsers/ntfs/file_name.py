"""$FILE_NAME: one name of a file, in its MFT record and as the key of a directory's index.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel), "$FILE_NAME".
"""

from __future__ import annotations

from vmount.parsers.layout import Field, Layout

FILE_NAME_KEY = Layout(
    "$FILE_NAME",
    Field("parent", "Q", at=0x00, note="parent_directory: reference to the directory's MFT record"),
    Field(
        "created",
        "q",
        at=0x08,
        note="FILETIME ([MS-DTYP] 2.3.3): 100 ns since 1601, as the other times",
    ),
    Field("modified", "q", at=0x10, note="last_data_change_time"),
    Field("changed", "q", at=0x18, note="last_mft_change_time"),
    Field("accessed", "q", at=0x20, note="last_access_time"),
    Field("allocated_size", "Q", at=0x28, note="bytes; may be out of date, as data_size"),
    Field("data_size", "Q", at=0x30),
    Field("file_attributes", "I", at=0x38, note="FILE_ATTRIBUTE_...; 0x10000000: a directory"),
    Field("extended", "I", at=0x3C, note="size of packed EAs, or the reparse tag"),
    Field("name_length", "B", at=0x40, note="UTF-16 code units; the name follows"),
    Field("namespace", "B", at=0x41, note="file_name_type"),
    size=66,
    source=(
        "reverse engineered: Linux-NTFS documentation (Russon, Fledel), $FILE_NAME; "
        "ntfs-3g layout.h FILE_NAME_ATTR"
    ),
)

POSIX = 0
WIN32 = 1
DOS = 2
"""An 8.3 name that stands beside the real one."""
WIN32_AND_DOS = 3

DIRECTORY_BIT = 0x10000000
"""In `file_attributes`: the file is a directory."""
