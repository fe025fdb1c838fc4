"""FAT12, FAT16 and FAT32 with long names (VFAT)."""

from vmount.parsers.fat.filesystem import FatFilesystem
from vmount.parsers.fat.open import open_fat

__all__ = ["FatFilesystem", "open_fat"]
