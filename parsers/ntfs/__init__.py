"""NTFS, versions 1.1 to 3.1, read only."""

from parsers.ntfs.filesystem import NtfsFilesystem
from parsers.ntfs.open import open_ntfs
from parsers.ntfs.reparse import ReparseLink

__all__ = ["NtfsFilesystem", "ReparseLink", "open_ntfs"]
