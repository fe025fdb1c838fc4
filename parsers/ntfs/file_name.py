"""$FILE_NAME: one name of a file, in its MFT record and as the key of a directory's index."""

from __future__ import annotations

from vmount.parsers.layout import Field, Layout

FILE_NAME_KEY = Layout(
    "$FILE_NAME",
    Field("parent", "Q"),
    Field("created", "q"),
    Field("modified", "q"),
    Field("changed", "q"),
    Field("accessed", "q"),
    Field("allocated_size", "Q"),
    Field("data_size", "Q"),
    Field("file_attributes", "I"),
    Field("extended", "I"),
    Field("name_length", "B"),
    Field("namespace", "B"),
)

POSIX = 0
WIN32 = 1
DOS = 2
"""An 8.3 name that stands beside the real one."""
WIN32_AND_DOS = 3

DIRECTORY_BIT = 0x10000000
"""In `file_attributes`: the file is a directory."""
